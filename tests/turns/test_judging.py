"""The judge of these tests: it passes a sound log and finds each planted fault."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

import pytest
from msgspec.structs import replace

from holdfast.model.entry import DeltaEntry, Entry, MessageEntry, TurnEntry
from holdfast.model.usage import TurnStatus
from tests.turns.judging import judge, judge_replies, reply_to

AT = datetime(2026, 1, 1, tzinfo=UTC)
Log: TypeAlias = list[Entry]


def turn(status: TurnStatus, name: str, attempt: int = 1) -> TurnEntry:
    """Return an entry that says how far a turn is."""
    return TurnEntry(0, AT, name, attempt, status)


def delta(offset: int, text: str, name: str) -> DeltaEntry:
    """Return streamed text."""
    return DeltaEntry(0, AT, name, 1, 0, offset, text)


def message(role: str, content: str, name: str, *, cut_off: bool = False) -> MessageEntry:
    """Return a message of a turn."""
    said: dict[str, object] = {"role": role, "content": content}
    if cut_off:
        said["metadata"] = {"state": "interrupted"}
    return MessageEntry(0, AT, (said,), name)


def sound() -> Log:
    """Return two turns of one caller: one was completed, one was cut off."""
    first = reply_to("a:0")
    return [
        turn(TurnStatus.RUNNING, "t1"),
        message("user", "a:0", "t1"),
        delta(0, first[0], "t1"),
        delta(len(first[0]), first[1], "t1"),
        message("assistant", "".join(first), "t1"),
        turn(TurnStatus.COMPLETED, "t1"),
        turn(TurnStatus.RUNNING, "t2"),
        message("user", "a:1", "t2"),
        delta(0, "a:1", "t2"),
        message("assistant", "a:1", "t2", cut_off=True),
        turn(TurnStatus.INTERRUPTED, "t2"),
    ]


def numbered(log: Log) -> Log:
    """Give each entry its revision."""
    return [replace(entry, revision=number) for number, entry in enumerate(log, 1)]


def test_sound() -> None:
    """A log in which everything is in order is passed."""
    assert judge(numbered(sound())) == []
    assert judge_replies(numbered(sound())) == []


FAULTS: dict[str, tuple[Callable[[Log], object], str]] = {
    "two at once": (lambda log: log.insert(5, log.pop(6)), "began while t1 was open"),
    "never closed": (lambda log: log.pop(), "never closed"),
    "closed twice": (lambda log: log.append(log[-1]), "t2 writes while None"),
    "a late delta": (lambda log: log.insert(8, log[2]), "t1 writes while t2"),
    "a late message": (lambda log: log.append(log[4]), "t1 writes while None"),
    "a gap": (lambda log: log.pop(2), "offset"),
    "a delta twice": (lambda log: log.insert(3, log[2]), "offset"),
    "text lost": (lambda log: log.pop(9), "lost its text"),
    "other text": (lambda log: log.__setitem__(4, message("assistant", "no", "t1")), "replaces"),
    "prompted twice": (lambda log: log.insert(2, log[1]), "prompted twice"),
    "a prompt lost": (lambda log: log.pop(1), "no prompt"),
    "out of order": (lambda log: log.__setitem__(slice(None), log[6:] + log[:6]), "prompt a:"),
    "cut off": (
        lambda log: log.__setitem__(-1, turn(TurnStatus.COMPLETED, "t2")),
        "its answer cut off",
    ),
    "an attempt twice": (lambda log: log.extend(log[6:]), "came to attempt 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault(name: str) -> None:
    """Each fault that is planted into a sound log is found."""
    plant, what = FAULTS[name]
    log = sound()
    plant(log)
    found = judge(numbered(log))
    assert any(what in fault for fault in found), found


def test_revisions_that_fall() -> None:
    """Entries that are not in order are found."""
    assert any("rise" in fault for fault in judge(numbered(sound())[::-1]))


def test_planted_replies() -> None:
    """An answer to another prompt, and a completed turn without one, are found."""
    log = sound()
    log[4] = message("assistant", "".join(reply_to("a:1")), "t1")
    assert any("answered" in fault for fault in judge_replies(log))
    del log[4]
    assert any("without its answer" in fault for fault in judge_replies(log))
