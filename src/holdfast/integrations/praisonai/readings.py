"""What callers have read, so that a plain list that is saved finds its base again.

PraisonAI's callers read a list, run a model and save a plain list. Which read that list comes from
is decided in this order:

1. the messages say so: each dict that was handed out remembers its read, also inside another list;
2. the last read in the same task, or in the same thread where there is no task;
3. the process's last read of the session.

A context variable alone would not tell: tasks inherit their parent's, and a copied context runs on
other threads. So a record counts only for the very task or thread that made it. And a list that was
read empty has no messages to remember anything: such reads are kept until somebody saves on them.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from copy import deepcopy
from typing import Any, TypeAlias

from msgspec import Struct

from holdfast.integrations.praisonai.messages import is_plain
from holdfast.model.message import Message

Place: TypeAlias = tuple[str, str, str]
"""The store's identity, the tenant and the session's id."""


class Reading(Struct, frozen=True, eq=False):
    """What one caller knows of a session: the messages that it was given, and their revision.

    `lead` messages at the beginning stand in no log, as a summary does. What a caller knows since
    it saved a list has the `read` that the list came from.
    """

    place: Place
    revision: int
    view: list[Message]
    lead: int = 0
    read: Reading | None = None

    @property
    def first(self) -> Reading:
        """The read itself."""
        return self.read or self

    def begins(self, given: Sequence[Message]) -> bool:
        """Say whether a list begins with everything that was read."""
        return given[: len(self.view)] == self.view


class ReadMessage(dict[str, Any]):
    """A message that was handed out; it remembers by which read. Copies and pickles do not."""

    __slots__ = ("reading",)
    reading: Reading

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


_EMPTY_READS = 64
"""As many reads of an empty session are kept, in case their lists come back."""

_Records: TypeAlias = dict[tuple["Readings", Place], tuple[weakref.ref[Any], Reading]]
_records: ContextVar[_Records] = ContextVar("holdfast_praisonai_readings")


class Readings:
    """The reads of one store object; `limit` is how many sessions it remembers (0: all)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: dict[Place, Reading] = {}
        self._empty: dict[Place, list[Reading]] = {}

    def hand_out(
        self, place: Place, revision: int, messages: Iterable[Message], lead: int = 0
    ) -> list[dict[str, Any]]:
        """Return the messages for a caller to have, and remember that they were read."""
        view = list(messages)
        reading = Reading(place, revision, view, lead)
        self._remember(reading)
        if not view:
            self._empty[place] = [*self._empty.get(place, []), reading][-_EMPTY_READS:]
            self._bounded(self._empty)
        handed = []
        for message in view:
            read = ReadMessage(_copied(message))
            read.reading = reading
            handed.append(read)
        return list[dict[str, Any]](handed)

    def saved(self, reading: Reading, revision: int, given: Iterable[Message]) -> None:
        """Remember what a caller knows once it has saved a list that it had read."""
        view = [_copied(message) for message in given]
        self._remember(Reading(reading.place, revision, view, 0, reading.first))

    def base_of(
        self, place: Place, messages: Iterable[object], given: Sequence[Message]
    ) -> Reading | None:
        """Return the read that a list comes from; `None` if the session was never read here.

        `messages` is the list as the caller handed it over, `given` what is to be stored of it.
        """
        found = {
            id(one.reading): one.reading
            for one in messages
            if isinstance(one, ReadMessage) and one.reading.place == place
        }
        own = self._own(place)
        if own is not None and (not found or id(own.first) in found):
            found |= {id(own): own, id(own.first): own.first}
        if not found:
            return self._read_elsewhere(place, given)
        return _newest(found.values(), given)

    def _read_elsewhere(self, place: Place, given: Sequence[Message]) -> Reading | None:
        """Return the process's last read, or one of an empty session that the list can come from.

        It can if it has nothing of what was read last.
        """
        last = self._last.get(place)
        empty = self._empty.get(place)
        if last is None:
            return None
        if not empty or any(one in last.view for one in given):
            return _newest([last.first, last], given)
        return empty.pop()

    def _own(self, place: Place) -> Reading | None:
        """Return the last read of this very task or thread."""
        owner, reading = _records.get({}).get((self, place), (None, None))
        return reading if owner is not None and owner() is _whoever_runs() else None

    def _remember(self, reading: Reading) -> None:
        self._settle(self._own(reading.place))
        records = dict(_records.get({}))
        records.pop((self, reading.place), None)
        records[self, reading.place] = weakref.ref(_whoever_runs()), reading
        _records.set(self._bounded(records))
        # Without a lock, which a fork could leave taken: each step is one operation on a dict.
        self._last.pop(reading.place, None)
        self._last[reading.place] = reading
        self._bounded(self._last)

    def _settle(self, reading: Reading | None) -> None:
        """Forget the read of an empty session whose reader has read or saved since."""
        if reading is not None and not reading.view and reading.place in self._empty:
            self._empty[reading.place] = [
                one for one in self._empty[reading.place] if one is not reading
            ]

    def _bounded(self, found: dict[Any, Any]) -> dict[Any, Any]:
        if self._limit and len(found) > self._limit:
            for oldest in list(found)[: len(found) - self._limit]:
                found.pop(oldest, None)
        return found


def _newest(found: Iterable[Reading], given: Sequence[Message]) -> Reading:
    """Return the newest that a list goes on from; if there is none, the newest at all."""
    known = list(found)
    return max([one for one in known if one.begins(given)] or known, key=lambda one: one.revision)


def _copied(message: Message) -> Message:
    """Return a message that shares nothing that can be changed."""
    return dict(message) if is_plain(message) else deepcopy(dict(message))


def _whoever_runs() -> object:
    """Return the task that runs, or the thread where none does."""
    if "asyncio" in sys.modules:
        import asyncio

        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs in this thread
            task = None
        if task is not None:
            return task
    return threading.current_thread()
