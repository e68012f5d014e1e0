"""What a process does while PostgreSQL does its batch: once, and at once where it would wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import psycopg
import pytest

from holdfast.model.commit import Commit
from holdfast.model.write import Write
from holdfast.store.backend import Backend, Outcome
from holdfast.store.postgres.plain import Stamped
from holdfast.store.postgres.transaction import Transaction
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from holdfast.testing.postgres import Server
from tests.postgres.test_locks import add, blocked, clear, commit, opened
from tests.stores import schema_of, server_of
from tests.turns.stage import wait_for


def committing(
    backend: Backend, writes: Sequence[Write], work: Callable[[], None]
) -> tuple[threading.Thread, list[Outcome]]:
    """Commit writes on a thread, with something to do meanwhile."""
    outcomes: list[Outcome] = []
    backend.meanwhile(work)
    thread = threading.Thread(target=commit, args=(backend, writes, outcomes))
    thread.start()
    return thread, outcomes


@pytest.mark.parametrize("write", [add, clear])
def test_while_others_hold_the_session(schema: str, write: Callable[[str], Write]) -> None:
    """It is done while the server waits for a lock, and not again when the batch is tried again."""
    backend = opened(schema)
    commit(backend, [add("a"), add("b")], [])
    done: list[int] = []
    with psycopg.connect(server_of(schema)) as holder:
        name = schema_of(schema)
        holder.execute(f"SELECT FROM {name}.sessions WHERE id = 'b' FOR UPDATE".encode())
        thread, outcomes = committing(
            backend, [write("a"), write("b")], lambda: done.append(blocked(schema))
        )
        wait_for(lambda: len(done) == 1, "what is done meanwhile")
        assert outcomes == []
        thread.join()
    assert len(outcomes) == 2
    assert len(done) == 1
    backend.close()


def test_before_the_rules_are_asked(schema: str) -> None:
    """It does not wait for what takes two round trips and locks."""
    backend = opened(schema)
    commit(backend, [add("a")], [])
    happened: list[str] = []
    decide = Transaction.decide

    def and_note(
        transaction: Transaction, batch: Sequence[Stamped]
    ) -> list[tuple[Stamped, Outcome]]:
        happened.append("decided")
        return decide(transaction, batch)

    with patch.object(Transaction, "decide", and_note):
        thread, outcomes = committing(backend, [clear("a")], lambda: happened.append("done"))
        thread.join()
    assert happened == ["done", "decided"]
    assert isinstance(outcomes[0], Commit)
    backend.close()


def test_before_an_outage_is_waited_out(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done before the first pause of a batch whose connection is gone."""
    happened: list[str] = []
    sleep = time.sleep

    def pause(seconds: float) -> None:
        happened.append("paused")
        sleep(seconds)

    with Server.start(tmp_path_factory.mktemp("postgres") / "own") as server:
        backend = backend_for(server.url, durability="full", timeout_s=1, sources=Sources())
        backend.open()
        assert backend.admit(wait=True)
        backend.meanwhile(lambda: happened.append("done"))
        server.kill()
        monkeypatch.setattr(time, "sleep", pause)
        (outcome,) = backend.commit([add("a")])
        backend.leave()
        backend.close()
    assert happened[0] == "done"
    assert happened.count("done") == 1
    assert "paused" in happened
    assert not isinstance(outcome, Commit)
