"""Compares what a store holds with what it acknowledged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import holdfast
from holdfast.model.entry import Entry, MessageEntry
from holdfast.testing.torture import follower, turnlog
from holdfast.testing.torture.acknowledgements import (
    SUFFIX,
    Acknowledgements,
    read_acknowledgements,
)
from holdfast.testing.torture.follower import read_shown
from holdfast.testing.torture.plan import TURNS_BEGIN, identity, message
from holdfast.testing.torture.turnlog import read_turns
from holdfast.testing.torture.turns import TurnFindings, compare_turns

Place: TypeAlias = tuple[str, int]
"""A worker and its number for a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the comparison found.

    `acknowledged` = `found` + `lost`. `doubled` counts surplus copies, `out_of_order` messages that
    stand behind a later one of the same worker, `moved` those whose entry is not at the revision
    that was acknowledged, `unknown` those that nobody sent. `damage` is what `verify` says.
    `longest` is the session that holds most; `turns` is what was found of turns, which have
    sessions of their own.
    """

    sessions: int = 0
    longest: str = ""
    acknowledged: int = 0
    found: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    moved: int = 0
    unknown: int = 0
    damage: list[str] = field(default_factory=list)
    turns: TurnFindings = field(default_factory=TurnFindings)

    @property
    def broken(self) -> list[str]:
        """Every promise that was broken, in words."""
        counts = (
            (self.lost, "acknowledged messages are lost"),
            (self.doubled, "messages are there more than once"),
            (self.out_of_order, "messages are out of order"),
            (self.moved, "messages are not where they were acknowledged"),
            (self.unknown, "messages are where nobody sent them"),
        )
        told = [f"{count:,} {what}" for count, what in counts if count]
        return told + self.turns.broken + self.damage


def check(url: str, folder: Path) -> Findings:
    """Compare the store with the acknowledgement logs in `folder`, when nobody writes any more."""
    logs = [read_acknowledgements(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    histories: dict[str, list[str]] = {}
    turns: dict[str, list[Entry]] = {}
    elsewhere = 0
    with holdfast.connect(url) as store:
        for session in _sessions(store):
            if session.startswith(TURNS_BEGIN):
                turns[session] = store.read_entries(session)
                continue
            history = store.get_chat_history(session)
            histories[session] = [identity(message["content"]) for message in history]
            elsewhere += moved(store.read_entries(session), session, logs)
        damage = [f"{p.session_id}: {p.what}" for p in store.verify().problems]
    found = compare(histories, logs, moved=elsewhere, damage=damage)
    seen = [read_turns(path) for path in sorted(folder.glob(f"*{turnlog.SUFFIX}"))]
    shown = [piece for path in folder.glob(f"*{follower.SUFFIX}") for piece in read_shown(path)]
    return replace(
        found,
        sessions=found.sessions + len(turns),
        turns=compare_turns(turns, seen, shown),
    )


def compare(
    histories: Mapping[str, Sequence[str]],
    logs: Sequence[Acknowledgements],
    *,
    moved: int = 0,
    damage: Sequence[str] = (),
) -> Findings:
    """Compare histories, as their messages' identities, with what was sent and acknowledged."""
    counts = {session: Counter(history) for session, history in histories.items()}
    sent: defaultdict[str, dict[str, Place]] = defaultdict(dict)
    acknowledged = lost = 0
    for log in logs:
        for number, session in log.sessions.items():
            name = _name(log.worker, number)
            sent[session][name] = (log.worker, number)
            if number in log.revisions:
                acknowledged += 1
                lost += name not in counts.get(session, ())
    return Findings(
        sessions=len(histories),
        longest=max(histories, key=lambda session: len(histories[session]), default=""),
        acknowledged=acknowledged,
        found=acknowledged - lost,
        lost=lost,
        doubled=sum(there.total() - len(there) for there in counts.values()),
        out_of_order=sum(_out_of_order(names, sent[at]) for at, names in histories.items()),
        moved=moved,
        unknown=sum(len(there.keys() - sent[at].keys()) for at, there in counts.items()),
        damage=list(damage),
    )


def _out_of_order(history: Iterable[str], sent: Mapping[str, Place]) -> int:
    """Count the messages that stand behind a later one of the same worker."""
    highest: dict[str, int] = {}
    late = 0
    for name in dict.fromkeys(history):  # a copy is counted as doubled, not here as well
        if name not in sent:
            continue
        worker, number = sent[name]
        late += number < highest.get(worker, 0)
        highest[worker] = max(number, highest.get(worker, 0))
    return late


def moved(entries: Iterable[Entry], session: str, logs: Sequence[Acknowledgements]) -> int:
    """Count the acknowledged messages that the log does not hold at their revision.

    The log keeps what a rewrite replaced, so this holds for rewritten sessions too.
    """
    log_holds = {
        entry.revision: {identity(message["content"]) for message in entry.messages}
        for entry in entries
        if isinstance(entry, MessageEntry)
    }
    return sum(
        _name(log.worker, number) not in log_holds.get(revision, ())
        for log in logs
        for number, revision in log.revisions.items()
        if log.sessions[number] == session
    )


def _sessions(store: holdfast.SessionStore) -> Iterator[str]:
    cursor: str | None = None
    while True:
        page = store.list_sessions(1_000, cursor=cursor)
        yield from (info.id for info in page)
        cursor = page.next_cursor
        if cursor is None:
            return


def _name(worker: str, number: int) -> str:
    return identity(message(worker, number)["content"])
