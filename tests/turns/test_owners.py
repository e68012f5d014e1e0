"""Whose a turn is when its process forks, or closes the store under it; and many in one process."""

from __future__ import annotations

import asyncio
import os

import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.model.entry import TurnEntry, UsageEntry
from holdfast.store.faces import async_face
from tests.turns.judging import judge
from tests.turns.stage import Stage
from tests.turns.worker import SESSION


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child(url: str) -> None:
    """A forked child can neither write into its parent's turn, nor renew it, nor close it."""
    with Stage(url) as stage:
        worker = stage.enter("fork")
        said = worker.hear()
        assert said == "child not_ours not_ours not_ours not_ours done 0"
        assert stage.store.get_session(SESSION).status == "running"
        worker.tell("go on")
        worker.finish()
        assert stage.texts() == ["a:0", "the parent's. Still."]
        assert judge(stage.entries()) == []
        assert not any(isinstance(entry, UsageEntry) for entry in stage.entries())
        assert stage.store.get_messages("child")[0]["content"] == "hello"


def test_closed_under_a_turn(url: str) -> None:
    """A store that is closed under a turn keeps its text, and whoever comes next closes it."""
    with Stage(url) as stage:
        store = holdfast.connect(stage.url)
        turn = store.turn(SESSION, "a:0")
        turn.__enter__()
        turn.write("shown, ")
        turn.write("and shown")
        store.close()
        with pytest.raises(Unavailable) as caught:
            turn.write("too late")
        assert caught.value.code == "closed"
        with pytest.raises(Unavailable):
            turn.__exit__(None, None, None)
        with stage.later() as later:
            assert later.recover() == 1
        assert stage.texts() == ["a:0", "shown, and shown"]
        assert judge(stage.entries()) == []
        reasons = [entry.reason for entry in stage.entries() if isinstance(entry, TurnEntry)]
        assert reasons == [None, "crashed"]


def test_a_loop_closed_under_a_turn(url: str) -> None:
    """A turn whose event loop was closed ends with its lease, and its text is kept."""
    with Stage(url) as stage:
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            turn = async_face(stage.store).turn(SESSION, "a:0", ttl=0.3)
            await turn.__aenter__()
            await turn.write("shown")

        loop.run_until_complete(begin())
        loop.close()
        with stage.store.turn(SESSION, "next", timeout=60) as turn:
            assert [m["content"] for m in turn.history] == ["a:0", "shown", "next"]


def test_many_turns(url: str) -> None:
    """Two hundred turns at a time in one event loop need a handful of threads."""
    with Stage(url) as stage:
        worker = stage.enter("run_many", "a", 200)
        threads, _ = worker.finish()[-1].split()
        assert int(threads) <= 10
        for number in range(200):
            assert judge(stage.store.read_entries(f"many-{number}")) == []
        assert stage.store.verify().problems == []
