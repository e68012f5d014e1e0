"""Turns under torture: what the storm's checker says of them can be relied upon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import pytest
from msgspec.structs import replace as replaced

import holdfast
from holdfast.model.entry import DeltaEntry, Entry, UsageEntry
from holdfast.model.usage import TurnStatus
from holdfast.store.sources import Sources
from holdfast.store.sync_turn import Turn
from holdfast.testing.torture import Plan, check, script, storm
from holdfast.testing.torture.follower import SUFFIX as SHOWN
from holdfast.testing.torture.follower import Shown, read_shown
from holdfast.testing.torture.streamer import stream
from holdfast.testing.torture.turnlog import SUFFIX, TurnLog, read_turns
from holdfast.testing.torture.turns import compare_turns

SESSION = "turns-001a"
LOG = f"streamer1{SUFFIX}"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan for a new store."""
    (tmp_path / "logs").mkdir()
    return Plan(url=str(tmp_path / "storm.db"), folder=str(tmp_path / "logs"), seed=7)


def test_a_storm_of_turns_breaks_no_promise(plan: Plan, url: str) -> None:
    """Workers that are killed in mid-stream lose no shown text, and all their turns are resumed."""
    plan = replace(plan, url=url, seconds=8, kills=40)
    found = storm(replace(plan, writers=1, savers=1, streamers=4))
    turns = found.findings.turns
    assert found.broken == []
    assert found.progress.cut > 0
    assert turns.interrupted > 0
    assert turns.started == turns.completed == turns.acknowledged > 0
    assert turns.shown > 0
    assert turns.unknown <= turns.interrupted


# What the checker notices


def answer(turn: Turn, number: int, answers: range, *, whole: bool = True) -> None:
    """Give answers as a streamer does; the last one only in part if it is not to be `whole`."""
    for which in answers:
        said = script.Said("streamer1", number, turn.attempt, which)
        pieces = script.pieces(said)
        if which == answers[-1] and not whole:
            turn.write("".join(pieces[:3]))
            return
        turn.write("".join(pieces))
        used = script.usage(said)
        turn.record_usage(
            model=used.model,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cached_tokens=used.cached_tokens,
            call=used.call,
        )
        if which < script.ANSWERS - 1:
            turn.add_message("assistant", script.text(said))


def begin(store: holdfast.SessionStore, number: int) -> Turn:
    """Return a streamer's turn of that number."""
    key = script.key("streamer1", number)
    return store.turn(SESSION, script.prompt("streamer1", number), key=key)


def play(plan: Plan) -> None:
    """Run a turn to its end, then one whose worker dies in its second answer, and resume it."""
    later = Sources(now_ms=lambda: int(time.time() * 1000) + 60_000)
    with TurnLog(Path(plan.folder, LOG)) as log, holdfast.connect(plan.url) as store:
        for number in (1, 2):
            log.sent(number, SESSION)
        with begin(store, 1) as turn:
            answer(turn, 1, range(script.ANSWERS))
        log.done(1, turn.id, 1)
        crashed = begin(store, 2)
        answer(crashed.__enter__(), 2, range(script.ANSWERS), whole=False)
        shown = next(e for e in store.follow(SESSION) if is_partial(e))
        crashed._shell.detach(crashed._live)  # nothing keeps its lease any more
        pieces = [e for e in store.read_entries(SESSION) if isinstance(e, DeltaEntry)]
        with holdfast.connect(plan.url, sources=later) as other, begin(other, 2) as turn:
            answer(turn, 2, range(1, script.ANSWERS))
        log.done(2, turn.id, turn.attempt)
    assert (turn.id, turn.attempt) == (shown.turn, 2)
    lines = [
        json.dumps(Shown(SESSION, e.turn, e.attempt, e.call, e.offset, e.text)) for e in pieces
    ]
    Path(plan.folder, f"follower1{SHOWN}").write_text("".join(f"{line}\n" for line in lines))


def is_partial(entry: Entry) -> TypeGuard[DeltaEntry]:
    """Say whether this is streamed text of the second turn's second answer."""
    return isinstance(entry, DeltaEntry) and entry.text.startswith("streamer1-000002/1.1")


Plant = Callable[[list[Entry], list[Shown]], object]


def _lose_shown(entries: list[Entry], _shown: list[Shown]) -> None:
    entries[:] = [e for e in entries if "interrupted" not in repr(getattr(e, "messages", ""))]


def _show_more(_entries: list[Entry], shown: list[Shown]) -> None:
    shown.append(shown[-1]._replace(offset=shown[-1].offset + len(shown[-1].text), text="never"))


def _show_elsewhere(_entries: list[Entry], shown: list[Shown]) -> None:
    shown.append(shown[-1]._replace(turn="turn_of_another"))


def _double_prompt(entries: list[Entry], _shown: list[Shown]) -> None:
    entries.insert(2, entries[1])


def _lose_answer(entries: list[Entry], _shown: list[Shown]) -> None:
    del entries[4], entries[4]  # with its usage, which would be too much otherwise


def _never_completed(entries: list[Entry], _shown: list[Shown]) -> None:
    entries[6] = replaced(entries[6], status=TurnStatus.FAILED)


def _end_later(entries: list[Entry], _shown: list[Shown]) -> None:
    entries.insert(7, entries.pop(6))  # behind the beginning of the next turn


def _count_wrongly(entries: list[Entry], _shown: list[Shown]) -> None:
    usage = entries[3]
    assert isinstance(usage, UsageEntry)
    entries[3] = replaced(usage, usage=replaced(usage.usage, input_tokens=1))


def _count_twice(entries: list[Entry], _shown: list[Shown]) -> None:
    entries.insert(3, entries[3])


def _count_nothing(entries: list[Entry], _shown: list[Shown]) -> None:
    del entries[3]


def _forget_the_unknown(entries: list[Entry], _shown: list[Shown]) -> None:
    entries[:] = [e for e in entries if not (isinstance(e, UsageEntry) and e.usage.unknown)]


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (_lose_shown, {"missing": 1}),
        (_show_more, {"shown": 1, "missing": 1}),
        (_show_elsewhere, {"shown": 1, "missing": 1}),
        (_double_prompt, {"prompts_doubled": 1}),
        (_lose_answer, {"unfinished": 1, "calls": -1}),
        (_never_completed, {"completed": -1, "unresumed": 1, "unfinished": 1}),
        (_end_later, {"overlapping": 2}),
        (_count_wrongly, {"miscounted": 2}),
        (_count_twice, {"miscounted": 1, "calls": 1}),
        (_count_nothing, {"miscounted": 1, "calls": -1}),
        (_forget_the_unknown, {"miscounted": 1, "calls": -1, "unknown": -1}),
    ],
)
def test_the_checker_finds_a_planted_fault(
    plan: Plan, plant: Plant, expected: dict[str, int]
) -> None:
    """One fault in a log that was right is found, and is all that is found."""
    play(plan)
    folder = Path(plan.folder)
    logs, shown = [read_turns(folder / LOG)], read_shown(folder / f"follower1{SHOWN}")
    with holdfast.connect(plan.url) as store:
        entries = store.read_entries(SESSION)
    right = compare_turns({SESSION: entries}, logs, shown)
    assert right == check(plan.url, folder).turns
    assert right.broken == []
    assert (right.started, right.interrupted, right.calls, right.unknown) == (2, 1, 5, 1)
    plant(entries, shown)
    found = compare_turns({SESSION: entries}, logs, shown)
    changes = {name: getattr(right, name) + by for name, by in expected.items()}
    assert found == replace(right, **changes)
    assert found.broken


def test_the_checker_finds_a_turn_that_was_acknowledged_and_is_gone(plan: Plan) -> None:
    """A session that lost a whole turn, or that is not there, breaks the promise."""
    play(plan)
    with holdfast.connect(plan.url) as store:
        store.delete_session(SESSION)
    assert check(plan.url, Path(plan.folder)).turns.unfinished == 2


# What the parts do


def test_a_streamer_resumes_what_was_not_done(plan: Plan) -> None:
    """A turn that was sent in an earlier life is given back or run, and stands there once."""
    log = Path(plan.folder, LOG)
    plan.stop_file.touch()  # so each life runs one turn
    stream(plan, "streamer1")
    sent, *_, done = log.read_text().splitlines()
    log.write_text(f"{sent}\n")  # the end was never heard
    stream(plan, "streamer1")
    assert log.read_text().splitlines()[-1] == done
    stream(plan, "streamer1")
    turns = check(plan.url, Path(plan.folder)).turns
    assert turns.broken == []
    assert (turns.started, turns.acknowledged) == (2, 2)


def test_a_log_of_turns_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """A line that nobody wrote is an error, never skipped."""
    log = tmp_path / LOG
    log.write_text("sent 1 a\nended 1\n")
    with pytest.raises(ValueError, match="not a line of a log of turns"):
        read_turns(log)
