"""Compares what a store holds of a storm's turns with what their workers and a follower saw."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from holdfast.model.entry import (
    DeltaEntry,
    Entry,
    MessageEntry,
    TurnEntry,
    UsageEntry,
)
from holdfast.model.message import Message
from holdfast.model.usage import TurnStatus, Usage
from holdfast.testing.torture import script
from holdfast.testing.torture.follower import Shown
from holdfast.testing.torture.turnlog import Done, TurnsSeen

Attempt: TypeAlias = tuple[str, int]
"""A turn's id, and the number of an attempt at it."""

_UNKNOWN = Usage(call="unknown", unknown=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFindings:
    """What the comparison found of turns.

    `interrupted` counts attempts that a kill cut off, `unresumed` the turns that no attempt
    completed, `unfinished` those that the store acknowledged as ended and that lack their prompt,
    an answer or their completion. `overlapping` counts entries written while another attempt ran,
    or none. `shown` are the pieces of text that a follower saw, `missing` those of them that no
    message of the turn holds. `calls` counts the records of model calls, `unknown` those that say
    nothing; `miscounted` the records that are too much, lacking or wrong. `resumed` is the session
    with most attempts cut off.
    """

    started: int = 0
    completed: int = 0
    interrupted: int = 0
    unresumed: int = 0
    acknowledged: int = 0
    unfinished: int = 0
    overlapping: int = 0
    prompts_doubled: int = 0
    shown: int = 0
    missing: int = 0
    calls: int = 0
    unknown: int = 0
    miscounted: int = 0
    resumed: str = ""

    @property
    def broken(self) -> list[str]:
        """Every promise that was broken, in words."""
        counts = (
            (self.unresumed, "turns were begun and never completed"),
            (self.unfinished, "acknowledged turns are not whole"),
            (self.overlapping, "entries of turns were written while another one ran"),
            (self.prompts_doubled, "prompts are there more than once"),
            (self.missing, "pieces of text were shown and are not there"),
            (self.miscounted, "model calls are not counted as they were made"),
        )
        return [f"{count:,} {what}" for count, what in counts if count]


def compare_turns(
    sessions: Mapping[str, Iterable[Entry]], logs: Sequence[TurnsSeen], shown: Sequence[Shown]
) -> TurnFindings:
    """Compare the logs of sessions with what was seen of their turns."""
    held = {session: SessionTurns(entries) for session, entries in sessions.items()}
    nothing = SessionTurns(())
    statuses = [status for one in held.values() for status in one.statuses.values()]
    completed = statuses.count(TurnStatus.COMPLETED)
    ended = [
        held.get(log.sessions[number], nothing).holds(log.worker, number, done)
        for log in logs
        for number, done in log.done.items()
    ]
    usages = [entry.usage for one in held.values() for entry in one.usages]
    return TurnFindings(
        started=len(statuses),
        completed=completed,
        interrupted=sum(len(one.crashed) for one in held.values()),
        unresumed=len(statuses) - completed,
        acknowledged=len(ended),
        unfinished=ended.count(False),
        overlapping=sum(one.overlapping for one in held.values()),
        prompts_doubled=sum(one.prompts.total() - len(one.prompts) for one in held.values()),
        shown=len(shown),
        missing=sum(not held.get(piece.session, nothing).has(piece) for piece in shown),
        calls=len(usages),
        unknown=sum(usage.unknown for usage in usages),
        miscounted=sum(one.miscounted() for one in held.values()),
        resumed=max(held, key=lambda session: len(held[session].crashed), default=""),
    )


class SessionTurns:
    """What one session's log says of its turns."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.statuses: dict[str, TurnStatus] = {}
        self.crashed: set[Attempt] = set()
        self.overlapping = 0
        self.prompts: Counter[str] = Counter()
        self.usages: list[UsageEntry] = []
        self._asked: dict[str, str] = {}
        self._said: defaultdict[str, list[Message]] = defaultdict(list)
        self._uncounted: set[Attempt] = set()
        self._runs: Attempt | None = None
        for entry in entries:
            self._take(entry)

    def holds(self, worker: str, number: int, done: Done) -> bool:
        """Say whether a turn that ended has its prompt, all answers in order, and is completed."""
        answers = self._answers(done.turn)
        return (
            self.statuses.get(done.turn) is TurnStatus.COMPLETED
            and self._asked.get(done.turn) == script.prompt(worker, number)
            and [said.answer for said in answers] == list(range(script.ANSWERS))
            and all((said.worker, said.number) == (worker, number) for said in answers)
            and answers[-1].attempt == done.attempt
        )

    def has(self, piece: Shown) -> bool:
        """Say whether a message of its turn holds a piece of text where it was shown."""
        texts = (str(message["content"]) for message in self._said.get(piece.turn, ()))
        return any(text.startswith(piece.text, piece.offset) for text in texts)

    def miscounted(self) -> int:
        """Count the records of usage that are too much, lacking or wrong."""
        found = Counter(
            (entry.turn, entry.attempt, _UNKNOWN if entry.usage.unknown else entry.usage)
            for entry in self.usages
        )
        expected = Counter((turn, attempt, _UNKNOWN) for turn, attempt in self._uncounted)
        for turn in self.statuses:
            for said in self._answers(turn):
                expected[turn, said.attempt, script.usage(said)] += 1
        for record in found.keys() - expected.keys():
            if self._was_cut_off(*record):
                expected[record] = 1
        return (found - expected).total() + (expected - found).total()

    def _was_cut_off(self, turn: str, attempt: int, usage: Usage) -> bool:
        """Say whether this is right for a call whose answer a crash kept from becoming whole."""
        cut = [script.said_by(m["content"]) for m in self._said[turn] if not _is_whole(m)]
        usages = [script.usage(said) for said in cut if said and said.attempt == attempt]
        return (turn, attempt) in self.crashed and usage in usages

    def _answers(self, turn: str) -> list[script.Said]:
        """Return the whole answers of a turn, if each is what was streamed."""
        whole = [str(m["content"]) for m in self._said.get(turn, ()) if _is_whole(m)]
        return [said for text in whole if (said := script.said_by(text)) and _is(text, said)]

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, TurnEntry):
            self._turn(entry)
        elif isinstance(entry, MessageEntry) and entry.turn is not None:
            self.overlapping += self._runs is None or self._runs[0] != entry.turn
        elif isinstance(entry, DeltaEntry | UsageEntry):
            attempt = (entry.turn, entry.attempt)
            self.overlapping += self._runs != attempt
            if isinstance(entry, DeltaEntry):
                self._uncounted.add(attempt)
            else:
                self.usages.append(entry)
                if not entry.usage.unknown:
                    self._uncounted.discard(attempt)
        if isinstance(entry, MessageEntry):
            for message in entry.messages:
                self._message(message, entry.turn)

    def _turn(self, entry: TurnEntry) -> None:
        attempt = (entry.turn, entry.attempt)
        begins = entry.status is TurnStatus.RUNNING
        self.overlapping += self._runs is not None if begins else self._runs != attempt
        if begins or self._runs == attempt:
            self._runs = attempt if begins else None
        self.statuses[entry.turn] = entry.status
        if entry.status is TurnStatus.INTERRUPTED:
            self.crashed.add(attempt)
        elif not begins:
            self._uncounted.discard(attempt)

    def _message(self, message: Message, turn: str | None) -> None:
        if message["role"] == "user":
            self.prompts[str(message["content"])] += 1
            self._asked.setdefault(turn or "", str(message["content"]))
        elif turn is not None:
            self._said[turn].append(message)


def _is_whole(message: Message) -> bool:
    metadata = message.get("metadata")
    return not (isinstance(metadata, dict) and metadata.get("state") == "interrupted")


def _is(text: str, said: script.Said) -> bool:
    return text == script.text(said)
