"""Many processes that want turns of one session."""

from __future__ import annotations

import pytest

from holdfast.model.entry import TurnEntry
from holdfast.model.usage import TurnStatus
from tests.stores import fewer
from tests.turns.judging import completed, judge, judge_replies
from tests.turns.stage import Stage, wait_for

PROCESSES = 8
COUNTS = {"wait": 5, "reject": 5, "interrupt": 2}
PAUSES_MS = {"wait": 10, "reject": 10, "interrupt": 80}


@pytest.mark.parametrize("mode", COUNTS)
def test_storm(url: str, mode: str) -> None:
    """Eight processes never have two turns at once; every prompt is answered or marked."""
    count = fewer(url, COUNTS[mode])
    with Stage(url) as stage:
        names = [f"p{number}" for number in range(PROCESSES)]
        for player in stage.enter_all("talk", names, count, mode, PAUSES_MS[mode]):
            player.finish()
        entries = stage.entries()
        assert judge(entries) == []
        assert judge_replies(entries) == []
        turns = [e for e in entries if isinstance(e, TurnEntry) and e.status is TurnStatus.RUNNING]
        assert len(turns) == len({turn.turn for turn in turns}) == PROCESSES * count
        if mode == "interrupt":
            assert completed(entries) < len(turns)
        else:
            assert completed(entries) == len(turns)
        assert stage.store.verify().problems == []


def test_line(url: str) -> None:
    """Processes that wait for a session get their turns in the order in which they came."""
    names = [f"q{number}" for number in range(6)]
    with Stage(url) as stage:
        with stage.store.turn("turns", "first", ttl=30):
            players = []
            for number, name in enumerate(names, 1):
                players.append(stage.enter("queue", name))
                wait_for(lambda number=number: stage.waiting() == number, name)  # type: ignore[misc] # bound
        for player in players:
            player.finish()
        prompts = [m["content"] for m in stage.store.get_messages("turns") if m["role"] == "user"]
        assert prompts == ["first", *(f"{name}:0" for name in names)]
        assert judge(stage.entries()) == []
        assert stage.waiting() == 0


def test_a_place_of_the_dead(url: str) -> None:
    """Whoever is killed while it waits gives its place up, and those behind it move on."""
    with Stage(url) as stage:
        with stage.store.turn("turns", "first", ttl=30):
            gone = stage.enter("queue", "gone")
            wait_for(lambda: stage.waiting() == 1)
            behind = stage.enter("queue", "behind")
            wait_for(lambda: stage.waiting() == 2)
            gone.kill()
        behind.finish()
        prompts = [m["content"] for m in stage.store.get_messages("turns") if m["role"] == "user"]
        assert prompts == ["first", "behind:0"]
