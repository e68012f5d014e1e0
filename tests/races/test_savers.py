"""Load, wait, add two, save: the step that loses messages elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.races.race import Race, Tally
from tests.races.worker import SESSION

PROCESSES = 4
ROUNDS = 100


def _save_at_once(folder: Path, role: str, *rewriters: str) -> tuple[Tally, list[list[str]]]:
    with Race(folder) as race:
        race.store.add_message(SESSION, "system", "begin")
        savers = race.enter(role, processes=PROCESSES, count=ROUNDS)
        others = [racer for rewriter in rewriters for racer in race.enter(rewriter)]
        race.go()
        for saver in savers:
            saver.finish()
            saver.count = 2 * ROUNDS
        race.stop()
        said = [other.finish() for other in others]
        assert race.store.verify().problems == []
        messages = race.store.get_messages(SESSION)
        found = race.tally(savers)
        assert len(messages) == 1 + found.found + len(found.doubled)
        return found, said


def test_planted_fault(tmp_path: Path) -> None:
    """The race is one: savers of plain lists lose messages in it."""
    found, _ = _save_at_once(tmp_path, "save_plain")
    assert found.lost


@pytest.mark.parametrize("role", ["save_itself", "save_slice", "save_copy", "save_twice"])
def test_savers(tmp_path: Path, role: str) -> None:
    """800 messages of four savers stand once each, every saver's in order, pairs together."""
    found, _ = _save_at_once(tmp_path, role)
    assert found == Tally(PROCESSES * ROUNDS * 2, [], [], [], [])


@pytest.mark.parametrize("role", ["save_itself", "save_twice"])
def test_savers_and_an_editor(tmp_path: Path, role: str) -> None:
    """A fifth process that edits the history in a loop costs nobody a message."""
    found, ((rewrites,),) = _save_at_once(tmp_path, role, "edit")
    assert found == Tally(PROCESSES * ROUNDS * 2, [], [], [], [])
    assert int(rewrites.split()[1]) > 10


def test_savers_and_rewriters(tmp_path: Path) -> None:
    """Two processes that rewrite have conflicts with each other, and cost nobody a message."""
    found, said = _save_at_once(tmp_path, "save_slice", "rewrite", "rewrite")
    assert found == Tally(PROCESSES * ROUNDS * 2, [], [], [], [])
    counts = [[int(word) for word in line.split()[1:]] for (line,) in said]
    assert sum(rewrites for rewrites, _ in counts) > 10
    assert sum(conflicts for _, conflicts in counts) > 0
