"""What a turn leaves when it is closed: its shown text as a message, its entry, its unknown usage.

The text that a crashed worker had flushed stands in deltas. Those after the turn's last whole
message are what was shown of the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.message import VERBATIM, Message, VerbatimMessage
from holdfast.model.turn import Reason
from holdfast.model.usage import TurnStatus, Usage
from holdfast.rules import codec
from holdfast.rules.belonging import asked, turn_facts
from holdfast.rules.repair import exchanges

SUPERSEDED = "Superseded: the conversation went on before this call was answered."


def turn_entry(turn: str, attempt: int, status: TurnStatus, **facts: Any) -> NewEntry:
    """Return the entry that says how far a turn has come."""
    known = {name: value for name, value in facts.items() if value is not None}
    payload = {"turn": turn, "attempt": attempt, "status": status.value, **known}
    return codec.new_entry(EntryKind.TURN, [codec.encode(payload)]).within(turn, attempt)


def delta_entry(turn: str, attempt: int, call: int, offset: int, text: str) -> NewEntry:
    """Return the entry of streamed text; `offset` counts the characters of its call before it."""
    payload = {"call": call, "offset": offset, "text": text}
    return codec.new_entry(EntryKind.DELTA, [codec.encode(payload)]).within(turn, attempt)


def usage_entry(turn: str, attempt: int, usage: Usage) -> NewEntry:
    """Return the entry of one model call's token counts."""
    payload = {
        "call": usage.call,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "unknown": usage.unknown,
    }
    return codec.new_entry(EntryKind.USAGE, [codec.encode(payload)]).within(turn, attempt)


def interrupted_message(turn: str, attempt: int, text: str, now: int) -> Message:
    """Return the message that keeps what was shown of an answer that was not finished."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    return {
        "role": "assistant",
        "content": text,
        "metadata": {"state": "interrupted"},
        "id": f"msg_{turn}.{attempt}",
        "created_at": f"{moment:%Y-%m-%dT%H:%M:%S}.{now % 1000:03}Z",
    }


def shown_text(rows: Iterable[LogRow]) -> str:
    """Return the text that was streamed after the last whole message among these rows."""
    calls: dict[int, str] = {}
    for row in rows:
        if row.kind == EntryKind.MESSAGE:
            calls.clear()
        elif row.kind == EntryKind.DELTA:
            delta = codec.decode_object(row.payload)
            before = calls.get(delta["call"], "")[: delta["offset"]]
            calls[delta["call"]] = before + delta["text"]
    return "".join(calls.values())


def said_in_turn(rows: Sequence[LogRow], turn: str, final: int) -> list[Message]:
    """Return a turn's whole messages without its prompt, ready for a provider, each once.

    What was cut off is left out, except of the attempt `final`. A rewrite may have carried messages
    over, so that the log holds them twice.
    """
    own = [row for row in rows if row.turn == turn]
    prompt = asked(turn_facts(own))
    said: dict[str, Message] = {}
    for row in own:
        if row.kind != EntryKind.MESSAGE:
            continue
        for stored, message in zip(
            codec.decode_whole([row.payload]), codec.decode_provider([row.payload]), strict=True
        ):
            metadata = stored.get("metadata") or {}
            cut_off = metadata.get("state") == "interrupted"
            if stored["id"] not in prompt and (row.attempt == final or not cut_off):
                if VERBATIM in metadata:
                    message = VerbatimMessage(message, metadata[VERBATIM])  # noqa: PLW2901
                said[stored["id"]] = message
    return list(said.values())


def closing_entries(
    turn: str, attempt: int, rows: Sequence[LogRow], now: int
) -> Iterable[NewEntry]:
    """Yield what closes an attempt whose worker died: `rows` are the log since it began."""
    own = [row for row in rows if row.turn == turn and row.attempt == attempt]
    text = shown_text(own)
    if text:
        line = codec.encode(interrupted_message(turn, attempt, text, now))
        yield codec.new_entry(EntryKind.MESSAGE, [line]).within(turn, attempt)
    if _streamed_after_last_usage(own):
        yield usage_entry(turn, attempt, Usage(call="recovered", unknown=True))
    yield turn_entry(turn, attempt, TurnStatus.INTERRUPTED, reason=Reason.CRASHED.value)


def superseding_entries(
    turn: str, attempt: int, said: list[Message], now: int
) -> Iterable[NewEntry]:
    """Yield what closes a turn that waited for an answer which will not come."""
    for calls in exchanges(said).values():
        for number, (call, found) in enumerate(calls):
            if found is None:
                message = interrupted_message(turn, attempt, SUPERSEDED, now)
                message |= {"role": "tool", "tool_call_id": call, "id": f"{message['id']}.{number}"}
                line = codec.encode(message)
                yield codec.new_entry(EntryKind.MESSAGE, [line]).within(turn, attempt)
    yield turn_entry(turn, attempt, TurnStatus.INTERRUPTED, reason=Reason.SUPERSEDED.value)


def _streamed_after_last_usage(rows: Sequence[LogRow]) -> bool:
    for row in reversed(rows):
        if row.kind == EntryKind.USAGE:
            return False
        if row.kind == EntryKind.DELTA:
            return True
    return False
