"""Invented keys go after a day, a slice at a time and apart from commits; callers' keys stay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import holdfast
from holdfast import SessionStore
from holdfast.store.postgres import forgetting
from holdfast.store.postgres.connections import Connection, Connections, parse_address
from holdfast.store.postgres.forgetting import AGE_MS, EVERY_S, SLICE, Forgetter
from holdfast.store.postgres.outages import Outage
from holdfast.store.sources import Sources
from holdfast.testing.conformance.subject import Script


class Clock(Script):
    """Scripted time, the seconds of deadlines included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def sources(self) -> Sources:
        """Return what a store takes."""
        return Sources(
            now_ms=lambda: self.now_ms, monotonic_s=lambda: self.seconds, new_id=self.new_id
        )


@pytest.fixture
def clock() -> Clock:
    """The time, which stands still until a test moves it."""
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[SessionStore]:
    """A store with scripted time."""
    with holdfast.connect(database, sources=clock.sources()) as store:
        yield store


@pytest.fixture
def connection(database: str, store: SessionStore) -> Iterator[psycopg.Connection[Any]]:
    """A look at the tables."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def forgetter(clock: Clock) -> Forgetter:
    """What forgets, called by the test."""
    return Forgetter("holdfast", clock.sources())


@pytest.fixture
def lent(database: str, store: SessionStore) -> Iterator[Connection]:
    """A connection as a store has it."""
    connections = Connections(parse_address(database, 30), Outage(time.monotonic, 30))
    with connections.lend() as connection:
        yield connection
    connections.close()


def keys(connection: psycopg.Connection[Any], tenant: str = "default") -> tuple[int, int]:
    """How many invented keys a tenant has, and how many of callers."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE invented), count(*) FILTER (WHERE NOT invented) "
        "FROM holdfast.keys WHERE tenant = %s",
        (tenant,),
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def invent(connection: psycopg.Connection[Any], count: int, at: int, tenant: str) -> None:
    """Make so many invented keys, a moment each, the last one at a time."""
    connection.execute(
        "INSERT INTO holdfast.keys (shard, tenant, session, key, invented, kind, revision, kept, "
        "                           write, at) "
        "SELECT 1, %s, 1, %s || n, true, 'add', 1, 0, 'w', %s - n FROM generate_series(1, %s) n",
        (tenant, f"{tenant}{at}", at, count),
    )


def eventually(condition: Any) -> None:
    """Wait until something has come true; a test that never sees it fails."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def test_a_day_later_the_next_write_forgets(
    store: SessionStore, connection: psycopg.Connection[Any], clock: Clock
) -> None:
    """Whoever writes a day later lets the invented keys go; what a caller named stays and works."""
    first = store.add_user_message("a", "hello", key="mine")
    for number in range(20):
        store.add_user_message("a", str(number))
    assert keys(connection) == (20, 1)
    clock.advance(AGE_MS + 1)
    clock.seconds += EVERY_S
    store.add_user_message("a", "a day later")
    eventually(lambda: keys(connection) == (1, 1))
    assert store.add_user_message("a", "hello", key="mine").revision == first.revision
    assert len(store.get_chat_history("a")) == 22


def test_younger_keys_stay(
    lent: Connection, connection: psycopg.Connection[Any], forgetter: Forgetter, clock: Clock
) -> None:
    """Less than a day is young, to the millisecond."""
    invent(connection, 1, clock.now_ms - AGE_MS + 1, "a")
    invent(connection, 1, clock.now_ms - AGE_MS, "a")
    forgetter.written(["a"])
    assert not forgetter.forget_some(lent)
    assert keys(connection, "a") == (1, 0)


def test_a_slice_at_a_time(
    lent: Connection, connection: psycopg.Connection[Any], forgetter: Forgetter, clock: Clock
) -> None:
    """However many there are, one transaction takes a slice, and says that there is more."""
    invent(connection, 2 * SLICE + 10, clock.now_ms - AGE_MS, "a")
    forgetter.written(["a"])
    left = []
    while forgetter.forget_some(lent):
        left.append(keys(connection, "a")[0])
    assert left == [SLICE + 10, 10]
    assert keys(connection, "a") == (0, 0)


def test_once_a_minute(
    lent: Connection, connection: psycopg.Connection[Any], forgetter: Forgetter, clock: Clock
) -> None:
    """Where little was found, the same tenant is looked at again a minute later, if written to."""
    old = clock.now_ms - AGE_MS
    forgetter.written(["a"])
    forgetter.forget_some(lent)
    invent(connection, 1, old, "a")
    for seconds, left in ((0, 1), (EVERY_S - 1, 1), (1, 0)):
        clock.seconds += seconds
        forgetter.written(["a"])
        forgetter.forget_some(lent)
        assert keys(connection, "a") == (left, 0)
    invent(connection, 1, old, "a")
    clock.seconds += EVERY_S
    assert not forgetter.forget_some(lent)
    assert keys(connection, "a") == (1, 0)


def test_each_tenant_by_itself(
    lent: Connection, connection: psycopg.Connection[Any], forgetter: Forgetter, clock: Clock
) -> None:
    """Each tenant that was written to has its turn, and none that was not."""
    for tenant in ("a", "b", "c"):
        invent(connection, 1, clock.now_ms - AGE_MS, tenant)
    forgetter.written(["a", "b"])
    assert forgetter.forget_some(lent)
    assert not forgetter.forget_some(lent)
    assert [keys(connection, tenant)[0] for tenant in ("a", "b", "c")] == [0, 0, 1]


def test_a_failure_is_not_repeated_at_once(
    lent: Connection, forgetter: Forgetter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is not tried again with every commit, but a minute later."""
    calls: list[str] = []

    def fail(_: Forgetter, __: Connection, tenant: str) -> bool:
        calls.append(tenant)
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(forgetting.Forgetter, "_forget", fail)
    for _ in range(3):
        forgetter.written(["a"])
        if not calls:
            with pytest.raises(psycopg.OperationalError):
                forgetter.forget_some(lent)
        else:
            assert not forgetter.forget_some(lent)
    assert calls == ["a"]


def test_no_commit_waits_for_it(
    store: SessionStore, connection: psycopg.Connection[Any], database: str, clock: Clock
) -> None:
    """A write is answered while somebody keeps the old keys from being forgotten."""
    store.add_user_message("a", "hello")
    with psycopg.connect(database) as holder:
        holder.execute("SELECT FROM holdfast.keys FOR UPDATE")
        clock.advance(AGE_MS + 1)
        clock.seconds += EVERY_S
        store.add_user_message("a", "again")
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
        )
        eventually(lambda: connection.execute(blocked.encode()).fetchone() == (1,))
        for number in range(3):
            store.add_user_message("a", str(number))
    eventually(lambda: keys(connection) == (4, 0))
