"""Adding from many processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.races.race import Race, Tally


def _add_at_once(folder: Path, role: str, processes: int, count: int) -> Tally:
    with Race(folder) as race:
        adders = race.enter(role, processes=processes, count=count)
        race.go()
        for adder in adders:
            adder.finish()
        assert race.store.verify().problems == []
        return race.tally(adders)


def test_planted_loss(tmp_path: Path) -> None:
    """The race is one: adding by saving plain lists loses messages in it."""
    assert _add_at_once(tmp_path, "save_plain", 4, 25).lost


def test_planted_double(tmp_path: Path) -> None:
    """A worker that repeats some messages without a key is caught."""
    assert len(_add_at_once(tmp_path, "add_again", 2, 20).doubled) == 4


@pytest.mark.parametrize(("processes", "count"), [(4, 250), (16, 100)])
def test_adders(tmp_path: Path, processes: int, count: int) -> None:
    """Every message of every process stands once, in its process's order."""
    found = _add_at_once(tmp_path, "add", processes, count)
    assert found.found == processes * count
    assert not found.harmed
