"""One client: a seeded sequence of operations on sessions that others use at the same time.

Sessions stay short: whoever finds one full goes on to the next of its line, where the others come
too. The same code runs on a thread and as a task.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from holdfast.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.model.commit import Commit
from holdfast.model.message import Message
from holdfast.model.session import REVISION_BITS
from holdfast.rules.history import History
from holdfast.testing.checking.operation import Add, Operation, Save, Unknown
from holdfast.testing.checking.plan import TENANTS
from holdfast.testing.checking.recorder import RecordedStore, Store
from holdfast.testing.checking.recording import ClientLog

LINES = 2
FULL = 70
RETRIES = 3
HASTY = 0.1
HURRIED = 0.02

Send: TypeAlias = Callable[[RecordedStore], Awaitable[Commit]]
Hurry: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(frozen=True, slots=True)
class Stores:
    """A tenant's store twice: with time to wait, and with next to none."""

    patient: Store
    hasty: Store


@dataclass(slots=True)
class _Line:
    """Where a client is in a line of sessions, and what it remembers of the session there."""

    tenant: str
    number: int
    place: int = 0
    revisions: list[int] = field(default_factory=list)
    held: History | None = None
    sent: list[Send] = field(default_factory=list)

    @property
    def session(self) -> str:
        return f"s{self.number}.{self.place}"

    @property
    def last(self) -> int:
        return self.revisions[-1] if self.revisions else 0

    def found(self, revision: int) -> None:
        """Remember a revision; go on to the next session if this one is full."""
        if revision:
            self.revisions = [*self.revisions[-8:], revision]
        if revision & ((1 << REVISION_BITS) - 1) > FULL:
            self.place += 1
            self.revisions, self.held, self.sent = [], None, []


class Client:
    """A client with its log, its stores and its memory."""

    def __init__(
        self,
        log: ClientLog,
        stores: Mapping[str, Stores],
        seed: int,
        hurry: Hurry | None = None,
    ) -> None:
        self._log = log
        self._patient = {name: RecordedStore(one.patient, log) for name, one in stores.items()}
        self._hasty = {name: RecordedStore(one.hasty, log) for name, one in stores.items()}
        self._hurry = hurry
        self._earlier = log.resume()
        self._random = random.Random(f"{seed}/{log.client}/{log.count}")
        self._lines = [_Line(tenant, number) for tenant in TENANTS for number in range(LINES)]
        self._actions: list[Callable[[_Line], Awaitable[None]]] = []
        self._weights: list[float] = []
        for action, weight in (
            (self._add, 30.0),
            (self._read, 24.0),
            (self._read_part, 7.0),
            (self._read_past, 6.0),
            (self._append, 12.0),
            (self._rewrite, 5.0),
            (self._replace, 1.5),
            (self._edit, 2.0),
            (self._clear, 0.7),
            (self._repeat, 4.0),
            (self._race, 5.0),
            (self._read_log, 1.5),
            (self._rename, 1.0),
            (self._delete, 0.15),
        ):
            self._actions.append(action)
            self._weights.append(weight)

    async def work(self, operations: int, tell: Callable[[int], None]) -> None:
        """Go on until that many operations are recorded; an earlier life's count."""
        if self._earlier:
            await self._take_up(self._earlier[-1])
        told = self._log.count
        while self._log.count < operations:
            line = self._random.choices(self._lines, [3, 3, 1, 1])[0]
            action = self._random.choices(self._actions, self._weights)[0]
            await self._try(action, line)
            if self._log.count - told >= 50:
                tell(self._log.count - told)
                told = self._log.count
        tell(self._log.count - told)

    async def _take_up(self, last: Operation) -> None:
        """Go on where an earlier life was killed: what had a key is sent again."""
        for line in self._lines:
            line.place = max(
                (
                    int(one.place.session.partition(".")[2])
                    for one in self._earlier
                    if one.place.session.startswith(f"s{line.number}.")
                ),
                default=0,
            )
        call = last.call
        if not isinstance(last.outcome, Unknown):
            return
        store = self._patient[last.place.tenant]
        with contextlib.suppress(HoldfastError):
            if isinstance(call, Add) and call.key:
                await store.add_messages(
                    last.place.session,
                    list(map(_message, call.messages)),
                    expected_revision=call.expected,
                    key=call.key,
                )
            elif isinstance(call, Save) and call.key:
                await store.set_chat_history(
                    last.place.session,
                    list(map(_message, call.given)),
                    base_revision=call.base,
                    key=call.key,
                )

    async def _try(self, action: Callable[[_Line], Awaitable[None]], line: _Line) -> None:
        hurried = self._hurry is not None and self._random.random() < HURRIED
        limit = self._hurry() if hurried and self._hurry else nullcontext()
        try:
            async with limit:
                await action(line)
        except (HoldfastError, TimeoutError):
            line.held = None
            if self._random.random() < 0.5:
                line.revisions = []

    # What a client does

    async def _add(self, line: _Line) -> None:
        messages = self._new(self._random.choice((1, 1, 1, 1, 2, 3, 4)))
        key = f"{self._log.client}-{self._log.count}" if self._random.random() < 0.5 else None
        session = line.session
        expected = line.last if self._random.random() < 0.2 else None

        def send(store: RecordedStore) -> Awaitable[Commit]:
            return store.add_messages(session, messages, expected_revision=expected, key=key)

        await self._send(line, send, key)

    async def _race(self, line: _Line) -> None:
        """Use a key that others use at the same time, each for a message of its own."""
        messages = self._new(1)
        session = line.session
        key = f"shared-{(line.last & 0xFFFF) // 8}"

        def send(store: RecordedStore) -> Awaitable[Commit]:
            return store.add_messages(session, messages, key=key)

        await self._send(line, send, key)

    async def _append(self, line: _Line) -> None:
        session = line.session
        history = await self._history(line)
        history += self._new(self._random.choice((1, 2)))
        await self._save(line, session, history)

    async def _rewrite(self, line: _Line) -> None:
        session = line.session
        history = await self._history(line)
        cut = self._random.randint(0, len(history))
        await self._save(line, session, self._new(1) + history[cut:])

    async def _save(self, line: _Line, session: str, history: History) -> None:
        """Save a history: as it is, or as a plain list with a key and the base said aloud."""
        line.held = None
        if self._random.random() < 0.5:
            commit = await self._store(line).set_chat_history(session, history)
            line.held = history
            line.found(commit.history_revision)
            return
        plain, base = list(history), history.revision
        key = f"{self._log.client}-{self._log.count}"

        def send(store: RecordedStore) -> Awaitable[Commit]:
            return store.set_chat_history(session, plain, base_revision=base, key=key)

        await self._send(line, send, key)

    async def _replace(self, line: _Line) -> None:
        session = line.session
        history = await self._history(line)
        plain = self._new(1) + list(history)[-5:]
        commit = await self._store(line).set_chat_history(session, plain)
        line.found(commit.history_revision)

    async def _edit(self, line: _Line) -> None:
        def edited(history: History) -> list[Message]:
            return [*self._new(1), *history[min(2, len(history)) :]]

        commit = await self._store(line).edit_history(line.session, edited)
        line.found(commit.history_revision)

    async def _read(self, line: _Line) -> None:
        history = await self._store(line).get_chat_history(line.session)
        if self._random.random() < 0.3:
            line.held = history
        line.found(history.revision)

    async def _read_part(self, line: _Line) -> None:
        limit = self._random.randint(0, 9)
        history = await self._store(line).get_chat_history(line.session, limit)
        line.found(history.revision)

    async def _read_past(self, line: _Line) -> None:
        at = self._random.choice(line.revisions) if line.revisions else 0
        if not at:
            return await self._read(line)
        at -= self._random.choice((0, 0, 1, 2))
        await self._store(line).get_chat_history(line.session, at=at)
        return None

    async def _clear(self, line: _Line) -> None:
        await self._store(line).clear_session(line.session)

    async def _repeat(self, line: _Line) -> None:
        """Send again what was sent with a key before."""
        if line.sent:
            await self._random.choice(line.sent)(self._store(line))

    async def _read_log(self, line: _Line) -> None:
        await self._store(line).read_entries(line.session)

    async def _rename(self, line: _Line) -> None:
        """Write what is no message, so that the session's revision is above its history's."""
        line.found(await self._store(line).rename_session(line.session, self._log.client))

    async def _delete(self, line: _Line) -> None:
        session = line.session
        await self._patient[line.tenant].read_entries(session)
        await self._store(line).delete_session(session)

    # How it does it

    def _store(self, line: _Line) -> RecordedStore:
        hasty = self._random.random() < HASTY
        return (self._hasty if hasty else self._patient)[line.tenant]

    def _new(self, count: int) -> list[Message]:
        """Return messages that nobody else sends."""
        number = self._log.count + 1
        stem = f"{self._log.client}.{number}.{self._random.randrange(1000)}"
        return [
            {"role": self._random.choice(("user", "assistant")), "content": f"{stem}.{index}"}
            for index in range(count)
        ]

    async def _history(self, line: _Line) -> History:
        """Return a history to save: mostly read just now, else one that may be old."""
        if line.held is not None and self._random.random() < 0.6:
            return line.held.copy()
        history = await self._store(line).get_chat_history(line.session)
        line.held = history.copy()
        return history

    async def _send(self, line: _Line, send: Send, key: str | None) -> None:
        """Send a write; with a key again, until its outcome is known or patience is at its end."""
        session = line.session
        for _ in range(RETRIES):
            try:
                commit = await send(self._store(line))
            except (OutcomeUnknown, Unavailable):
                if key is None or self._random.random() < 0.2:
                    raise
            else:
                if key is not None and session == line.session:
                    line.sent = [*line.sent[-3:], send]
                line.found(commit.history_revision)
                return


def _message(text: str) -> Message:
    role, _, content = text.partition(":")
    return {"role": role, "content": content}
