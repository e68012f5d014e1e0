"""The pooling proxy: what a session keeps beyond a transaction is lost, as behind PgBouncer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from holdfast.testing.postgres import PoolingProxy, Server


def test_settings_are_forgotten(server: Server) -> None:
    """What was SET for the session holds within its transaction, and not in the next one."""
    with (
        PoolingProxy(server.port, size=2) as proxy,
        psycopg.connect(proxy.url_for(server)) as connection,
    ):
        connection.execute("SET work_mem = '7MB'")
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        connection.commit()
        assert connection.execute("SHOW work_mem").fetchone() != ("7MB",)


def test_settings_are_met_by_others(server: Server) -> None:
    """What one client SET for its session, another one meets who gets the connection."""
    with (
        PoolingProxy(server.port, size=1) as proxy,
        psycopg.connect(proxy.url_for(server), autocommit=True) as one,
        psycopg.connect(proxy.url_for(server), autocommit=True) as other,
    ):
        one.execute("SET work_mem = '7MB'")
        assert other.execute("SHOW work_mem").fetchone() == ("7MB",)


def test_listening_hears_nothing(server: Server) -> None:
    """LISTEN succeeds and hears nothing, while a client with its own connection hears."""
    with (
        PoolingProxy(server.port, size=2) as proxy,
        psycopg.connect(proxy.url_for(server), autocommit=True) as deaf,
        psycopg.connect(server.url, autocommit=True) as hearing,
        psycopg.connect(server.url, autocommit=True) as speaking,
    ):
        for connection in (deaf, hearing):
            connection.execute("LISTEN news")
        speaking.execute("NOTIFY news, 'hello'")
        assert [n.payload for n in hearing.notifies(timeout=10, stop_after=1)] == ["hello"]
        assert list(deaf.notifies(timeout=0.2)) == []


def test_prepared_statements_are_unknown(server: Server) -> None:
    """A statement that was prepared under a name is unknown in the next transaction."""
    with (
        PoolingProxy(server.port, size=2) as proxy,
        psycopg.connect(proxy.url_for(server), autocommit=True) as connection,
    ):
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            connection.execute("SELECT %s::int", [1], prepare=True)  # prepares, then executes
        connection.prepare_threshold = None
        for n in range(20):
            assert connection.execute("SELECT %s::int", [n]).fetchone() == (n,)


def test_many_clients_share_few_connections(server: Server, database: str) -> None:
    """Many clients share a few connections; each keeps the same one within a transaction."""
    together = threading.Barrier(12)

    def work(url: str) -> set[int]:
        used = set()
        with psycopg.connect(url, prepare_threshold=None) as connection:
            together.wait(30)  # all are connected
            for n in range(10):
                connection.execute("INSERT INTO counted VALUES (%s)", [n])
                [(one,)] = connection.execute("SELECT pg_backend_pid()")
                [(two,)] = connection.execute("SELECT pg_backend_pid()")
                assert one == two
                used.add(one)
                connection.commit()
        return used

    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE counted (n int)")
    with PoolingProxy(server.port, size=3) as proxy, ThreadPoolExecutor(12) as threads:
        used = set().union(*threads.map(work, [proxy.url_for(database)] * 12))
        assert len(used) == proxy.connections == 3
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM counted").fetchone() == (120,)


def test_pipelines(server: Server) -> None:
    """A pipeline of several transactions is answered in order, whoever else is there."""
    with (
        PoolingProxy(server.port, size=2) as proxy,
        psycopg.connect(proxy.url_for(server), autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(proxy.url_for(server), autocommit=True, prepare_threshold=None) as two,
    ):
        for connection in (one, two, one, two):
            with connection.pipeline() as pipeline:
                cursors = []
                for n in range(50):
                    cursors.append(connection.execute("SELECT %s::int, repeat('x', 9999)", [n]))
                    pipeline.sync()
                assert [row[0] for c in cursors for row in c] == list(range(50))


def test_whoever_leaves_leaves_nothing_open(server: Server, database: str) -> None:
    """A client that goes in mid-transaction is rolled back, and its connection replaced."""
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with PoolingProxy(server.port, size=1) as proxy:
        leaving = psycopg.connect(proxy.url_for(database))
        leaving.execute("INSERT INTO kept VALUES (1)")
        leaving.close()
        with psycopg.connect(proxy.url_for(database)) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert proxy.connections == 1


def test_server_connections_that_end(server: Server, database: str) -> None:
    """Whoever holds a connection that the server ends loses its own; an idle one is replaced."""
    with PoolingProxy(server.port, size=2) as proxy:
        holding = psycopg.connect(proxy.url_for(database))
        holding.execute("SELECT 1")
        idle = psycopg.connect(proxy.url_for(database), autocommit=True)
        idle.execute("SELECT 1")
        name = database.rpartition("/")[2]
        killed = server.execute(
            f"SELECT pg_terminate_backend(pid, 9999) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        assert killed == [(True,), (True,)]
        with pytest.raises(psycopg.OperationalError):
            holding.execute("SELECT 1")
        assert idle.execute("SELECT 1").fetchone() == (1,)
        idle.close()


def test_what_it_refuses(server: Server) -> None:
    """Settings in the address are refused, and what the server refuses is passed on."""
    with PoolingProxy(server.port, size=1) as proxy:
        with pytest.raises(
            psycopg.OperationalError, match="unsupported startup parameter: options"
        ):
            psycopg.connect(proxy.url_for(server), options="-c work_mem=7MB")
        with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
            psycopg.connect(proxy.url_for(server.url_for("nowhere")))
    with PoolingProxy(1, size=1) as proxy, pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.url_for(server))


def test_cancelling(server: Server) -> None:
    """A cancel request with the proxy's own key reaches the query of that client, and no other."""
    with (
        PoolingProxy(server.port, size=2) as proxy,
        psycopg.connect(proxy.url_for(server), autocommit=True) as connection,
        psycopg.connect(proxy.url_for(server), autocommit=True) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        assert connection.info.backend_pid != other.info.backend_pid
        answer = thread.submit(connection.execute, "SELECT pg_sleep(60)")
        deadline = time.monotonic() + 30
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        while not server.execute(sleeping):
            assert time.monotonic() < deadline
        other.cancel_safe()
        with pytest.raises(TimeoutError):
            answer.result(0.1)
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            answer.result(30)
        assert other.execute("SELECT 1").fetchone() == (1,)
