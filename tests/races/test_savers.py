"""Load, wait, add two, save: the step that loses messages elsewhere."""

from __future__ import annotations

import pytest

from tests.races.race import Race, Tally
from tests.races.worker import SESSION
from tests.stores import fewer

PROCESSES = 4
ROUNDS = 100


def _save_at_once(race: Race, role: str, *rewriters: str) -> tuple[Tally, list[list[str]]]:
    race.store.add_message(SESSION, "system", "begin")
    rounds = fewer(race.url, ROUNDS)
    savers = race.enter(role, processes=PROCESSES, count=rounds)
    others = [racer for rewriter in rewriters for racer in race.enter(rewriter)]
    race.go()
    for saver in savers:
        saver.finish()
        saver.count = 2 * rounds
    race.stop()
    said = [other.finish() for other in others]
    assert race.store.verify().problems == []
    messages = race.store.get_messages(SESSION)
    found = race.tally(savers)
    assert len(messages) == 1 + found.found + len(found.doubled)
    return found, said


def test_planted_fault(race: Race) -> None:
    """The race is one: savers of plain lists lose messages in it."""
    found, _ = _save_at_once(race, "save_plain")
    assert found.lost


@pytest.mark.parametrize("role", ["save_itself", "save_slice", "save_copy", "save_twice"])
def test_savers(race: Race, role: str) -> None:
    """800 messages of four savers stand once each, every saver's in order, pairs together."""
    found, _ = _save_at_once(race, role)
    assert found == Tally(PROCESSES * fewer(race.url, ROUNDS) * 2, [], [], [], [])


@pytest.mark.parametrize("role", ["save_itself", "save_twice"])
def test_savers_and_an_editor(race: Race, role: str) -> None:
    """A fifth process that edits the history in a loop costs nobody a message."""
    found, ((rewrites,),) = _save_at_once(race, role, "edit")
    assert found == Tally(PROCESSES * fewer(race.url, ROUNDS) * 2, [], [], [], [])
    assert int(rewrites.split()[1]) > 10


def test_savers_and_rewriters(race: Race) -> None:
    """Two processes that rewrite have conflicts with each other, and cost nobody a message."""
    found, said = _save_at_once(race, "save_slice", "rewrite", "rewrite")
    assert found == Tally(PROCESSES * fewer(race.url, ROUNDS) * 2, [], [], [], [])
    counts = [[int(word) for word in line.split()[1:]] for (line,) in said]
    assert sum(rewrites for rewrites, _ in counts) > 10
    assert sum(conflicts for _, conflicts in counts) > 0
