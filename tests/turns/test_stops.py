"""Workers that stand still or fall silent, and those that take over."""

from __future__ import annotations

import signal

import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.model.entry import TurnEntry
from tests.turns.judging import judge, reply_to
from tests.turns.stage import Player, Stage, wait_for
from tests.turns.worker import SESSION


def stop_outside_a_commit(stage: Stage, player: Player) -> None:
    """Stop a process while it does not hold the store."""

    def is_stopped() -> bool:
        player.signal(signal.SIGSTOP)
        with holdfast.connect(stage.url, timeout=0.5) as probe:
            try:
                probe.add_user_message("probe", "is it free?")
            except Unavailable:
                player.signal(signal.SIGCONT)
                return False
        return True

    wait_for(is_stopped, "stopping")


def test_stopped_beyond_its_lease(url: str) -> None:
    """A worker that stood still beyond its lease can write nothing; what others wrote stays."""
    with Stage(url) as stage:
        worker = stage.enter("be_stopped")
        assert worker.hear() == "holding"
        stop_outside_a_commit(stage, worker)
        with stage.store.turn(SESSION, "b:0") as turn:
            assert stage.texts() == ["a:0", "shown", "b:0"]
            worker.signal(signal.SIGCONT)
            worker.tell("go on")
            said = worker.finish()
            turn.write("mine")
        assert said[0] == said[-1] == "LeaseLost"
        assert said.count("done") <= 1  # text is taken at once, and not written
        entries = stage.entries()
        assert judge(entries) == []
        assert stage.texts() == ["a:0", "shown", "b:0", "mine"]
        closings = [entry.reason for entry in entries if isinstance(entry, TurnEntry)]
        assert closings == [None, "crashed", None, None]
        assert stage.store.verify().problems == []


def test_stopped_within_its_lease(url: str) -> None:
    """A worker that stood still, and that nobody relieved, goes on."""
    with Stage(url) as stage:
        worker = stage.enter("be_stopped")
        assert worker.hear() == "holding"
        stop_outside_a_commit(stage, worker)

        def has_expired() -> bool:
            row = stage.store._reading.live_row(SESSION)
            return row is not None and stage.store._engine.sources.now_ms() > row.lease_until

        wait_for(has_expired, "expiry")
        worker.signal(signal.SIGCONT)
        worker.tell("go on")
        assert worker.finish() == ["done"] * 4
        assert judge(stage.entries()) != []  # it replaced what it had shown, as it was told to
        assert stage.store.get_session(SESSION).status == "idle"


@pytest.mark.parametrize("how", ["asleep", "busily"])
def test_thinking(url: str, how: str) -> None:
    """A model that thinks in silence for five leases, in plain code, keeps its turn."""
    with Stage(url) as stage:
        worker = stage.enter("think", "a", how)
        assert worker.hear() == "thinking"
        waiting = stage.enter("queue", "b")
        wait_for(lambda: stage.waiting() == 1, "a place in the line")
        seen: set[int] = set()

        def renewed() -> int:
            row = stage.store._reading.live_row(SESSION)
            seen.update([row.lease_until] if row is not None else [])
            return len(seen) - 1

        wait_for(lambda: renewed() >= 15, "renewing the lease")  # three times each
        assert stage.waiting() == 1
        worker.tell("enough")
        worker.finish()
        waiting.finish()
        assert stage.texts() == ["a:0", "I thought.", "b:0", "".join(reply_to("b:0"))]
        assert judge(stage.entries()) == []
