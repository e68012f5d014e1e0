"""Long conversations: as much of a history as fits, and a summary of the rest.

A history is cut in what a model is sent, never in the log. A summary begins a new generation, whose
predecessor stays readable; where none can be made, nothing changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
from msgspec import Struct

from holdfast.agents.events import Event, ModelCall, Text, ToolCalls, Used
from holdfast.agents.offline import text_of
from holdfast.agents.runner import Runner, Summarising, closing
from holdfast.agents.settings import check_above_0
from holdfast.errors import ConfigError, Conflict
from holdfast.model.message import Message
from holdfast.rules.history import History
from holdfast.rules.repair import repair
from holdfast.rules.window import last_messages
from holdfast.store.async_store import AsyncSessionStore

BYTES_A_TOKEN = 4
"""A rule of thumb for all models: their own counting would need each one's tokenizer."""

ASK = (
    "Summarise the conversation so far for yourself, so that you can go on with it: facts, names, "
    "numbers, decisions, and what is still open. Answer with the summary alone."
)
HEADING = "Summary of the conversation so far:\n"


def check_fitting(tokens: int | None, compact: str | None) -> None:
    """Raise `ConfigError` if these settings say nothing."""
    check_above_0("history_tokens", tokens)
    if compact not in (None, "auto"):
        raise ConfigError(f"compact={compact!r} is unknown", hint='use "auto", or leave it out')
    if compact is not None and tokens is None:
        raise ConfigError(
            'compact="auto" needs to know what is long',
            hint="say how much the model is sent at most, with history_tokens=",
        )


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Return about how many tokens messages are, by their size as JSON."""
    return sum(map(_size, messages)) // BYTES_A_TOKEN


def _size(message: Message) -> int:
    return len(msgspec.json.encode(message))


def fitting(messages: Sequence[Message], tokens: int) -> list[Message]:
    """Return the last messages that fit, with the system's before them.

    Never begins inside a tool exchange, and always holds what is to be answered: everything from
    the last thing that the user said on, whatever its size.
    """
    head = _heading(messages)
    rest = list(messages[len(head) :])
    room = (tokens - estimated_tokens(head) + 1) * BYTES_A_TOKEN  # what is begun does not count
    asked = max((n for n, m in enumerate(rest) if m["role"] == "user"), default=len(rest) - 1)
    least = len(rest) - asked
    count = 0
    for message in reversed(rest):
        room -= _size(message)
        if count >= least and room <= 0:
            break
        count += 1
    found = last_messages(rest, count)
    for place in range(len(rest) - count - 1, -1, -1):
        if found:
            break
        if rest[place].get("tool_calls"):  # a single exchange, which is longer than what fits
            found = last_messages(rest, len(rest) - place)
    return [*head, *found]


def _heading(messages: Sequence[Message]) -> list[Message]:
    head: list[Message] = []
    for message in messages:
        if message["role"] not in ("system", "developer"):
            break
        head.append(message)
    return head


class Fitting(Struct, frozen=True, kw_only=True):
    """How a session's history is made to fit: at most so many `tokens`.

    With `summarise` a summary of what is cut off takes its place, in the session's history, too.
    """

    store: AsyncSessionStore
    session_id: str
    tokens: int
    summarise: bool

    async def answer(self, runner: Runner, history: History) -> AsyncIterator[Event]:
        """Yield the answer to what fits of a history, after the summary of the rest, if any."""
        view: list[Message] = list(history)
        if estimated_tokens(view) > self.tokens:
            summary: list[str] = []
            if self.summarise:
                async with closing(self._compact(runner, summary)) as events:
                    async for event in events:
                        yield event
            view = fitting(view, self.tokens)
            if summary:
                head = len(_heading(view))
                view = [{"role": "system", "content": summary[0]}, *view[head:]]
        async with closing(runner.answer(History(view, history.origin))) as events:
            async for event in events:
                yield event

    async def _compact(self, runner: Runner, made: list[str]) -> AsyncIterator[Event]:
        """Put a summary in the place of what does not fit, and add it to `made`."""
        stored = await self.store.get_chat_history(self.session_id, repair=False)
        kept = fitting(stored, self.tokens // 2)
        kept = kept[len(_heading(kept)) :]
        older = repair(list(stored[: len(stored) - len(kept)]))
        if len(older) == len(_heading(older)):
            return  # nothing was said that could be summarised
        pieces: list[str] = []
        try:
            async with closing(_summary(runner, older)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        pieces.append(event.text)
                    elif isinstance(event, ModelCall | Used):
                        yield event
                    elif isinstance(event, ToolCalls):
                        return  # that is no summary
        except Exception:  # noqa: BLE001 - whatever a model's client raises: nothing changes
            return
        text = "".join(pieces).strip()
        if not text:
            return
        summary = "\n\n".join([*_instructions(older), HEADING + text])
        try:
            await self.store.compact_session(
                self.session_id, summary, keep_last=len(kept), base=stored
            )
        except Conflict:  # somebody else rewrote the history meanwhile
            return
        made.append(summary)


def _instructions(messages: Sequence[Message]) -> list[str]:
    """Return what the system says before a conversation, without an earlier summary of it."""
    said = (text_of(message).partition(HEADING)[0].strip() for message in _heading(messages))
    return [text for text in said if text]


def _summary(runner: Runner, older: list[Message]) -> AsyncIterator[Event]:
    asked = History([*older, {"role": "user", "content": ASK}])
    return runner.summarise(asked) if isinstance(runner, Summarising) else runner.answer(asked)
