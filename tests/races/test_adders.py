"""Adding from many processes."""

from __future__ import annotations

import pytest

from tests.races.race import Race, Tally
from tests.stores import fewer


def _add_at_once(race: Race, role: str, processes: int, count: int) -> Tally:
    adders = race.enter(role, processes=processes, count=count)
    race.go()
    for adder in adders:
        adder.finish()
    assert race.store.verify().problems == []
    return race.tally(adders)


def test_planted_loss(race: Race) -> None:
    """The race is one: adding by saving plain lists loses messages in it."""
    assert _add_at_once(race, "save_plain", 4, 25).lost


def test_planted_double(race: Race) -> None:
    """A worker that repeats some messages without a key is caught."""
    assert len(_add_at_once(race, "add_again", 2, 20).doubled) == 4


@pytest.mark.parametrize(("processes", "count"), [(4, 250), (16, 100)])
def test_adders(race: Race, processes: int, count: int) -> None:
    """Every message of every process stands once, in its process's order."""
    count = fewer(race.url, count)
    found = _add_at_once(race, "add", processes, count)
    assert found.found == processes * count
    assert not found.harmed
