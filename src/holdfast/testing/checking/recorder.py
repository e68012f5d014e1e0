"""A store with a recorder: whatever is asked of it and whatever it answers goes into a recording.

It is written once for both faces. On a `SessionStore` its coroutines never wait for a loop, and
`drive` runs them on the caller's thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from holdfast.errors import Conflict, HoldfastError, OutcomeUnknown
from holdfast.model.commit import Commit
from holdfast.model.entry import Entry, MessageEntry, ResetEntry
from holdfast.model.message import Message
from holdfast.rules.history import History
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.sync_store import SessionStore
from holdfast.testing.checking.operation import (
    THERE,
    Add,
    Call,
    Clear,
    Committed,
    Delete,
    Existed,
    LogEntry,
    LogSeen,
    Outcome,
    Place,
    Read,
    ReadLog,
    Refused,
    Rename,
    Save,
    Seen,
    Unknown,
    now,
    text_of,
)
from holdfast.testing.checking.recording import ClientLog

T = TypeVar("T")
Store: TypeAlias = SessionStore | AsyncSessionStore


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that only uses synchronous stores, on this thread and without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    coroutine.close()
    raise RuntimeError("a client of a synchronous store waited for something")


class RecordedStore:
    """One client's way to a store. Errors are recorded and then raised as they came."""

    def __init__(self, store: Store, log: ClientLog) -> None:
        self.log = log
        self._store = store

    def place(self, session_id: str) -> Place:
        """Return how a session of this store is recorded."""
        return Place(self._store.tenant, session_id)

    async def add_messages(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        expected_revision: int | None = None,
        key: str | None = None,
    ) -> Commit:
        """Append messages."""
        call = Add(tuple(map(text_of, messages)), expected_revision, key)
        return await self._record(
            session_id,
            call,
            lambda: self._store.add_messages(
                session_id, messages, expected_revision=expected_revision, key=key
            ),
            _committed,
        )

    async def get_chat_history(
        self, session_id: str, max_messages: int | None = None, *, at: int | None = None
    ) -> History:
        """Read a history."""
        return await self._record(
            session_id,
            Read(max_messages, at),
            lambda: self._store.get_chat_history(session_id, max_messages, at=at),
            seen,
        )

    async def read_entries(self, session_id: str) -> list[Entry]:
        """Read the whole log."""
        return await self._record(
            session_id, ReadLog(), lambda: self._store.read_entries(session_id), _log_seen
        )

    async def set_chat_history(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        base_revision: int | None = None,
        key: str | None = None,
    ) -> Commit:
        """Save a history."""
        base = base_revision
        if base is None and isinstance(messages, History):
            base = _base(messages)
        return await self._record(
            session_id,
            Save(tuple(map(text_of, messages)), base, key),
            lambda: self._store.set_chat_history(
                session_id, messages, base_revision=base_revision, key=key
            ),
            lambda commit: _committed(commit, _settled(messages)),
        )

    async def edit_history(
        self, session_id: str, function: Callable[[History], Sequence[Message]]
    ) -> Commit:
        """Edit a history: recorded as what it is, a read and a save, and again after a conflict."""
        edit = _Edit(self.log, self.place(session_id), function)
        try:
            commit: Commit = await _awaited(self._store.edit_history(session_id, edit))
        except BaseException as error:
            edit.end(_refusal(error), now())
            raise
        edit.end(_committed(commit), now())
        return commit

    async def rename_session(self, session_id: str, title: str) -> int:
        """Change the title; return the session's revision as it is read back then."""
        info = await self._record(
            session_id,
            Rename(),
            lambda: self._store.rename_session(session_id, title),
            lambda _: THERE,
        )
        return info.revision

    async def clear_session(self, session_id: str) -> bool:
        """Begin an empty history."""
        return await self._record(
            session_id, Clear(), lambda: self._store.clear_session(session_id), Existed
        )

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session."""
        deletion = await self._record(
            session_id,
            Delete(),
            lambda: self._store.delete_session(session_id),
            lambda deletion: Existed(bool(deletion)),
        )
        return bool(deletion)

    async def _record(
        self,
        session_id: str,
        call: Call,
        ask: Callable[[], T | Awaitable[T]],
        outcome: Callable[[T], Outcome],
    ) -> T:
        number = self.log.invoke(self.place(session_id), call)
        try:
            result = await _awaited(ask())
        except BaseException as error:
            self.log.answer(number, _refusal(error), now())
            raise
        self.log.answer(number, outcome(result), now())
        return result


class _Edit:
    """The function given to `edit_history`, which thereby learns what was read and when."""

    def __init__(
        self, log: ClientLog, place: Place, function: Callable[[History], Sequence[Message]]
    ) -> None:
        self._log = log
        self._place = place
        self._function = function
        self._began = now()
        self._number = log.invoke(place, Read(), self._began)
        self._saving = False

    def __call__(self, history: History) -> Sequence[Message]:
        at = now()
        if self._saving:
            self._log.answer(self._number, Refused(Conflict.default_code), at)
            self._number = self._log.invoke(self._place, Read(), self._began)
        self._log.answer(self._number, seen(history), at)
        edited = self._function(history)
        self._began = now()
        self._saving = True
        call = Save(tuple(map(text_of, edited)), _base(history))
        self._number = self._log.invoke(self._place, call, self._began)
        return edited

    def end(self, outcome: Outcome, at: int) -> None:
        """Record what became of the last step."""
        self._log.answer(self._number, outcome, at)


async def _awaited(result: T | Awaitable[T]) -> T:
    return await result if inspect.isawaitable(result) else result


def _base(history: History) -> int | None:
    origin = history.origin
    return None if origin is None or origin.pinned else history.revision


def _settled(messages: Sequence[Message]) -> Seen | None:
    """Return what a saved `History` has become, unless it is spent."""
    if not isinstance(messages, History) or messages.origin is None:
        return None
    return None if messages.origin.spent or messages.origin.pinned else seen(messages)


def _committed(commit: Commit, settled: Seen | None = None) -> Committed:
    return Committed(
        commit.revision,
        commit.history_revision,
        commit.replayed,
        commit.kept,
        commit.removed,
        settled,
    )


def seen(history: History) -> Seen:
    """Return a history as it is recorded."""
    return Seen(history.revision, tuple(map(text_of, history)))


def _log_seen(entries: list[Entry]) -> LogSeen:
    return LogSeen(tuple(map(_log_entry, entries)))


def _log_entry(entry: Entry) -> LogEntry:
    if isinstance(entry, MessageEntry):
        return LogEntry(entry.revision, "message", tuple(map(text_of, entry.messages)))
    if isinstance(entry, ResetEntry):
        return LogEntry(
            entry.revision,
            "reset",
            (),
            entry.reason,
            entry.base_revision,
            entry.last_revision,
            entry.closed_messages,
        )
    return LogEntry(entry.revision, entry.kind.value)


def _refusal(error: BaseException) -> Outcome:
    """Return what an error says of the outcome: every other one of ours is a certain failure."""
    if isinstance(error, Conflict):
        return Refused(error.code, error.expected, error.actual)
    if isinstance(error, HoldfastError) and not isinstance(error, OutcomeUnknown):
        return Refused(error.code)
    return Unknown()
