"""The cutting proxy: each fault really happens, and only that one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from holdfast.testing.postgres import Cut, CuttingProxy, Request, Server, at_random, once

INSERT = "INSERT INTO rows VALUES (%s)"
"""With a parameter it takes the extended protocol: Parse, Bind, Execute, Sync."""


@pytest.fixture(scope="module")
def _with_rows(server: Server) -> Iterator[str]:
    yield server.create_database("cutting")
    server.drop_database("cutting")


@pytest.fixture
def database(_with_rows: str) -> str:
    """The address of a database with an empty table, which is all that these tests write to."""
    with psycopg.connect(_with_rows) as connection:
        connection.execute("DROP TABLE IF EXISTS rows")
        connection.execute("CREATE TABLE rows (n int)")
    return _with_rows


def rows(database: str) -> list[int]:
    """Return what was committed, past any proxy."""
    with psycopg.connect(database) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM rows ORDER BY n")]


def insert(url: str, n: int) -> None:
    """Add a row, in three requests: BEGIN, INSERT, COMMIT."""
    with psycopg.connect(url) as connection:
        connection.execute(INSERT, [n])


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("autocommit", [True, False])
def test_without_a_choice_nothing_is_cut(
    server: Server, database: str, *, autocommit: bool
) -> None:
    """A proxy that is told nothing goes unnoticed: by large answers, errors, COPY and pipelines."""
    with (
        CuttingProxy(server.port) as proxy,
        psycopg.connect(proxy.url_for(database), autocommit=autocommit) as connection,
    ):
        large = connection.execute("SELECT repeat('x', 3000000)").fetchone()
        assert large is not None
        assert len(large[0]) == 3_000_000
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("SELECT 1 / %s", [0])
        with connection.cursor().copy("COPY rows FROM STDIN") as copy:
            copy.write("1\n2\n")
        with connection.pipeline():
            cursors = [connection.execute(INSERT, [n]) for n in (3, 4)]
        assert [cursor.rowcount for cursor in cursors] == [1, 1]
        connection.commit()
        assert proxy.cuts == {}
    assert rows(database) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("cut", "stored"),
    [(Cut.BEFORE, []), (Cut.AFTER, [1]), (Cut.DURING, [1])],
)
@pytest.mark.parametrize("statement", [INSERT, "INSERT INTO rows VALUES (1)"])
def test_cuts_of_a_commit(
    server: Server, database: str, cut: Cut, stored: list[int], statement: str
) -> None:
    """A statement that commits and is cut fails for the client, and happened unless cut before."""
    with CuttingProxy(server.port, once(cut, containing="INSERT")) as proxy:
        with (
            pytest.raises(psycopg.OperationalError),
            psycopg.connect(proxy.url_for(database), autocommit=True) as connection,
        ):
            connection.execute(statement, [1] if "%s" in statement else None)
        assert connection.closed
        eventually(lambda: rows(database) == stored)
        assert proxy.cuts == {cut: 1}
        with psycopg.connect(proxy.url_for(database)) as again:
            again.execute("SELECT 1")


@pytest.mark.parametrize(("containing", "stored"), [("COMMIT", [1]), ("INSERT", [])])
def test_cuts_of_a_transaction(
    server: Server, database: str, containing: str, stored: list[int]
) -> None:
    """Cut at its commit, a transaction of several statements happened; cut before, it did not."""
    with CuttingProxy(server.port, once(Cut.AFTER, containing=containing)) as proxy:
        with pytest.raises(psycopg.OperationalError):
            insert(proxy.url_for(database), 1)
        eventually(lambda: rows(database) == stored and _connections(server, database) == 0)


def test_a_cut_leaves_the_server_its_time(server: Server, database: str) -> None:
    """The server finishes what it was sent, however long it takes after the client was cut off."""
    with CuttingProxy(server.port, once(Cut.AFTER)) as proxy:
        with (
            pytest.raises(psycopg.OperationalError),
            psycopg.connect(proxy.url_for(database), autocommit=True) as connection,
        ):
            connection.execute("INSERT INTO rows SELECT 1 FROM pg_sleep(0.3)")
        assert rows(database) == []
        eventually(lambda: rows(database) == [1])


def test_cuts_between_transactions(server: Server, database: str) -> None:
    """Cut between transactions, the client has its answer and finds out at its next statement."""
    with CuttingProxy(server.port, once(Cut.BETWEEN, containing="INSERT")) as proxy:
        connection = psycopg.connect(proxy.url_for(database))
        connection.execute(INSERT, [1])  # leaves a transaction open, so it is not cut here
        connection.commit()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        assert proxy.cuts == {Cut.BETWEEN: 1}
    assert rows(database) == [1]


def test_what_a_choice_is_told(server: Server, database: str) -> None:
    """A choice knows the statements, prepared ones too, and whether a transaction is open."""
    seen: list[Request] = []

    def watch(request: Request) -> None:
        seen.append(request)

    with CuttingProxy(server.port) as proxy:
        psycopg.connect(proxy.url_for(database)).close()
        with psycopg.connect(proxy.url_for(database)) as connection:
            proxy.choose = watch
            connection.execute(INSERT, [1], prepare=True)
            connection.execute(INSERT, [2], prepare=True)
    insert = INSERT.replace("%s", "$1")
    assert seen == [
        Request(2, 1, ("BEGIN",), in_transaction=False),
        Request(2, 2, (), in_transaction=True),  # it is prepared
        Request(2, 3, (insert,), in_transaction=True),
        Request(2, 4, (insert,), in_transaction=True),
        Request(2, 5, ("COMMIT",), in_transaction=True),
    ]


def test_cuts_at_random(server: Server, database: str) -> None:
    """A seed decides what is cut; retrying without a key then doubles rows, as it must."""

    def run(url: str) -> None:
        for n in range(60):
            while True:
                try:
                    with psycopg.connect(url, autocommit=True) as connection:
                        connection.execute(INSERT, [n])
                except psycopg.OperationalError:
                    continue
                break

    counted = []
    for _ in range(2):
        with CuttingProxy(server.port, at_random(seed=5, rate=0.3)) as proxy:
            run(proxy.url_for(database))
            counted.append(proxy.cuts)
    assert counted[0] == counted[1]
    assert set(counted[0]) == set(Cut)
    times = Counter(rows(database))
    assert len(times) == 60
    doubled = times.total() - 2 * len(times)
    assert doubled == sum(counts[Cut.AFTER] + counts[Cut.DURING] for counts in counted)


def test_held_answers(server: Server, database: str) -> None:
    """While answers are held the server commits and the client waits; then it has its answer."""
    with (
        CuttingProxy(server.port) as proxy,
        psycopg.connect(proxy.url_for(database), autocommit=True) as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        proxy.hold()
        answer = thread.submit(connection.execute, "INSERT INTO rows VALUES (1)")
        eventually(lambda: rows(database) == [1])
        with pytest.raises(TimeoutError):
            answer.result(0.1)
        proxy.release()
        assert answer.result(30).rowcount == 1


def test_refused_connections(server: Server, database: str) -> None:
    """While connections are refused those that there are go on, and the port stays the same."""
    with CuttingProxy(server.port) as proxy, psycopg.connect(proxy.url_for(database)) as connection:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(proxy.url_for(database))
        connection.execute("SELECT 1")
        proxy.accept()
        psycopg.connect(proxy.url_for(database)).close()


def test_a_target_that_is_down(server: Server, database: str) -> None:
    """A proxy whose server is down closes the connection; led to another, it works again."""
    with CuttingProxy(1) as proxy:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(proxy.url_for(database))
        proxy.retarget(server.port)
        psycopg.connect(proxy.url_for(database)).close()


def test_cancelling_passes(server: Server, database: str) -> None:
    """A cancel request finds its query through the proxy."""
    with (
        CuttingProxy(server.port) as proxy,
        psycopg.connect(proxy.url_for(database), autocommit=True) as connection,
        ThreadPoolExecutor(1) as thread,
    ):
        answer = thread.submit(connection.execute, "SELECT pg_sleep(60)")
        eventually(lambda: _connections(server, database, state="active") == 1)
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            answer.result(30)


def _connections(server: Server, database: str, *, state: str = "%") -> int:
    name = database.rpartition("/")[2]
    [(count,)] = server.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state LIKE '{state}'"
    )
    assert isinstance(count, int)
    return count
