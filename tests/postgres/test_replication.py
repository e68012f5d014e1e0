"""Replicas: what a synchronous one has after a failover, and what another one may lack."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from holdfast.testing.postgres import CuttingProxy, Replica, Server


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Server]:
    """A server that has a table and may be harmed."""
    with Server.start(tmp_path / "primary") as primary:
        primary.execute("CREATE TABLE rows (n int)")
        yield primary


def test_failover_keeps_every_acknowledged_row(primary: Server, tmp_path: Path) -> None:
    """After the primary was killed, its synchronous replica has all that was acknowledged.

    Whoever writes through a proxy goes on at the same address.
    """
    acknowledged: list[int] = []
    failed = threading.Event()

    def write(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            try:
                for n in range(1_000_000):
                    connection.execute("INSERT INTO rows VALUES (%s)", [n])
                    acknowledged.append(n)
                    started.set()
            except psycopg.OperationalError:
                failed.set()

    started = threading.Event()
    with (
        Replica.of(primary, tmp_path / "replica") as replica,
        CuttingProxy(primary.port) as proxy,
        ThreadPoolExecutor(1) as thread,
    ):
        url = proxy.url_for(primary)
        writing = thread.submit(write, url)
        assert started.wait(30)
        primary.kill()
        writing.result(30)
        assert failed.is_set()
        proxy.retarget(replica.port)
        with (
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
            psycopg.connect(url, autocommit=True) as connection,
        ):
            connection.execute("INSERT INTO rows VALUES (-1)")
        replica.promote()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO rows VALUES (-1)")  # it waits for nobody
            rows = [n for (n,) in connection.execute("SELECT n FROM rows ORDER BY n")]
        # The row that was under way may be there as well.
        assert rows in ([-1, *acknowledged], [-1, *acknowledged, len(acknowledged)])


def test_commits_wait_for_a_synchronous_replica(primary: Server, tmp_path: Path) -> None:
    """While its synchronous replica is frozen or down, a primary acknowledges nothing."""
    insert = "INSERT INTO rows VALUES (1)"
    with (
        Replica.of(primary, tmp_path / "replica") as replica,
        ThreadPoolExecutor(1) as thread,
    ):
        replica.freeze()
        waiting = thread.submit(primary.execute, insert)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        replica.thaw()
        waiting.result(30)
        replica.kill()
        waiting = thread.submit(primary.execute, insert)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        replica.restart()
        waiting.result(30)
        assert replica.execute("SELECT n FROM rows") == [(1,), (1,)]


def test_an_asynchronous_replica_may_lack_rows(primary: Server, tmp_path: Path) -> None:
    """What a primary acknowledged while an asynchronous replica was away is lost at a failover."""
    with Replica.of(primary, tmp_path / "replica", synchronous=False) as replica:
        replica.stop()
        primary.execute("INSERT INTO rows VALUES (1)")
        primary.kill()
        replica.restart()
        replica.promote()
        assert replica.execute("SELECT n FROM rows") == []


def test_a_promoted_replica_can_have_one_of_its_own(primary: Server, tmp_path: Path) -> None:
    """A primary may have several synchronous replicas, and a promoted one replicas of its own."""
    with (
        Replica.of(primary, tmp_path / "one", name="one") as one,
        Replica.of(primary, tmp_path / "two", name="two") as two,
    ):
        states = "SELECT application_name, sync_state FROM pg_stat_replication ORDER BY 1"
        assert primary.execute(states) == [("one", "sync"), ("two", "sync")]
        two.promote()
        with Replica.of(two, tmp_path / "three", name="three") as three:
            two.execute("INSERT INTO rows VALUES (3)")
            assert two.execute(states) == [("three", "sync")]
            three.promote()
            assert three.execute("SELECT n FROM rows") == [(3,)]
        assert one.execute("SELECT n FROM rows") == []
