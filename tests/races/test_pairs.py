"""Two processes load one revision, and both save at the same time."""

from __future__ import annotations

import pytest

from tests.races.race import Race, Racer
from tests.races.worker import SESSION
from tests.stores import fewer

ROUNDS = 25


class Duel:
    """Two processes that do one step each at the same time."""

    def __init__(self, race: Race, one: Racer, two: Racer) -> None:
        self.race = race
        self._pair = (one, two)

    def step(self, one: str, two: str) -> list[str]:
        """Give an order to each, then hear how each of them ended."""
        for racer, order in zip(self._pair, (one, two), strict=True):
            racer.tell(order)
        return [racer.hear() for racer in self._pair]

    def after_load(self, number: int, one: str, two: str) -> tuple[list[str], list[str]]:
        """Save from one revision; return the outcomes and the history that is left."""
        store = self.race.store
        store.set_chat_history(SESSION, [{"role": "user", "content": f"begin-{number}"}])
        assert self.step("load", "load") == ["loaded", "loaded"]
        outcomes = self.step(one, two)
        return outcomes, [message["content"] for message in store.get_chat_history(SESSION)]


@pytest.fixture
def duel(race: Race) -> Duel:
    """Two processes that wait for orders."""
    one, two = race.enter("save_on_order", processes=2)
    race.go()
    return Duel(race, one, two)


def test_planted_fault(duel: Duel) -> None:
    """Two plain lists saved from one revision leave one of them: the other is lost."""
    outcomes, left = duel.after_load(0, "plain x", "plain y")
    assert outcomes == ["saved", "saved"]
    assert len(left) == 2


def test_two_appends(duel: Duel) -> None:
    """Two appends from one revision are both kept."""
    for number in range(fewer(duel.race.url, ROUNDS)):
        outcomes, left = duel.after_load(number, f"append x{number}", f"append y{number}")
        assert outcomes == ["saved", "saved"]
        assert left[0] == f"begin-{number}"
        assert sorted(left[1:]) == [f"x{number}", f"y{number}"]


def test_rewrite_and_append(duel: Duel) -> None:
    """A rewrite and an append from one revision are both kept, whichever came first."""
    for number in range(fewer(duel.race.url, ROUNDS)):
        outcomes, left = duel.after_load(number, f"rewrite x{number}", f"append y{number}")
        assert outcomes == ["saved", "saved"]
        assert left == [f"x{number}", f"y{number}"]


def test_two_rewrites(duel: Duel) -> None:
    """Of two rewrites from one revision exactly one is a conflict, and only the other is there."""
    for number in range(fewer(duel.race.url, ROUNDS)):
        outcomes, left = duel.after_load(number, f"rewrite x{number}", f"rewrite y{number}")
        assert sorted(outcomes) == ["conflict", "saved"]
        winner = "xy"[outcomes.index("saved")]
        assert left == [f"{winner}{number}"]
