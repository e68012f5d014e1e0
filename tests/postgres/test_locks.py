"""Locks on the server: no batches that wait in a circle, and workers that stand still."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from unittest.mock import patch

import psycopg
import pytest

import holdfast
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind
from holdfast.model.write import Reset, Write, WriteKind
from holdfast.rules.codec import new_entry
from holdfast.store.backend import Backend, Outcome
from holdfast.store.postgres.plain import Stamped
from holdfast.store.postgres.queries import queries
from holdfast.store.postgres.transaction import Transaction
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from tests.stores import schema_of, server_of
from tests.turns.stage import wait_for


def add(session_id: str) -> Write:
    """A write that the server decides."""
    said = new_entry(EntryKind.MESSAGE, [b'{"role":"user","content":"x"}'])
    return Write(tenant="default", session_id=session_id, kind=WriteKind.ADD, entries=(said,))


def clear(session_id: str) -> Write:
    """A write that the rules decide."""
    reset = Reset("clear")
    return Write(tenant="default", session_id=session_id, kind=WriteKind.CLEAR, reset=reset)


def opened(url: str) -> Backend:
    """Open a backend."""
    backend = backend_for(url, durability="full", timeout_s=20, sources=Sources())
    backend.open()
    return backend


def commit(backend: Backend, writes: Sequence[Write], outcomes: list[Outcome]) -> None:
    """Commit a batch, and say what came of it."""
    assert backend.admit(wait=True)
    outcomes += backend.commit(writes)
    backend.leave()


def blocked(url: str) -> int:
    """Count the connections that wait for a lock."""
    with psycopg.connect(server_of(url)) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_a_new_session_before_one_that_is_there(schema: str) -> None:
    """A batch that makes one session and changes another never deadlocks with one that adds."""
    one, other = opened(schema), opened(schema)
    commit(one, [add("b")], [])
    locked, go = threading.Event(), threading.Event()
    decide = Transaction.decide

    def and_wait(
        transaction: Transaction, batch: Sequence[Stamped]
    ) -> list[tuple[Stamped, Outcome]]:
        decided = decide(transaction, batch)
        locked.set()
        assert go.wait(60)
        return decided

    mixed: list[Outcome] = []
    added: list[Outcome] = []
    threads = [
        threading.Thread(target=commit, args=(one, [clear("a"), clear("b")], mixed)),
        threading.Thread(target=commit, args=(other, [add("a"), add("b")], added)),
    ]
    with patch.object(Transaction, "decide", and_wait):
        threads[0].start()
        assert locked.wait(60)
        threads[1].start()
        wait_for(lambda: blocked(schema) == 1, "waiting for the lock")
        go.set()
        for thread in threads:
            thread.join()
    assert all(isinstance(outcome, Commit) for outcome in [*added, *mixed])
    one.close()
    other.close()


def test_a_worker_that_stands_still_in_a_transaction(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stands still with a session locked holds others up for a while, and tries again.

    The while is 10 s; here it is shorter, but longer than a batch waits for a lock.
    """
    one = opened(schema)
    commit(one, [add("a")], [])
    statements = queries(schema_of(schema))
    patient = statements["set_tenant"]
    assert "'10s'" in patient
    monkeypatch.setitem(statements, "set_tenant", patient.replace("'10s'", "'1500ms'"))
    locked, go = threading.Event(), threading.Event()
    decide = Transaction.decide

    def and_stand_still(
        transaction: Transaction, batch: Sequence[Stamped]
    ) -> list[tuple[Stamped, Outcome]]:
        decided = decide(transaction, batch)
        locked.set()
        assert go.wait(60)
        return decided

    late: list[Outcome] = []
    with (
        holdfast.connect(schema) as other,
        patch.object(Transaction, "decide", and_stand_still),
    ):
        thread = threading.Thread(target=commit, args=(one, [clear("a")], late))
        thread.start()
        assert locked.wait(60)
        other.add_user_message("a", "x")
        assert not go.is_set(), "it still stands there"
        go.set()
        thread.join()
    assert all(isinstance(outcome, Commit) for outcome in late)
    read = one.read_log("default", "a")
    assert read is not None
    assert [row.kind for row in read.rows] == ["message", "message", "reset"]
    one.close()
