"""How the schema's functions are called: prepared where a session is one's own, whole elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import errors

from holdfast.store.postgres.calls import call, call_of, integer, number_in, text
from holdfast.store.postgres.connections import Connection, connect, parse_address
from holdfast.testing.postgres import PoolingProxy, Server

ADDING = call_of("SELECT %s::bigint + length(%s)")
DIVIDING = call_of("SELECT 1 / %s::bigint")


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    """A connection to the server itself."""
    with connect(parse_address(server.url, 10)) as connection:
        yield connection


def added(connection: Connection, number: int, word: str) -> int | None:
    """Call a statement."""
    return number_in(call(connection, ADDING, (integer(number), text(word))), 0, 0)


def prepared(connection: Connection) -> set[str]:
    """Return the names of the statements that the server keeps for a connection."""
    return {row[0] for row in connection.execute("SELECT name FROM pg_prepared_statements")}


def test_a_statement_is_prepared_once(connection: Connection) -> None:
    """Where a connection is one session of the server, each statement is parsed a single time."""
    assert [added(connection, n, "four") for n in range(3)] == [4, 5, 6]
    assert prepared(connection) == {ADDING.name.decode()}


def test_nothing_is_prepared_behind_a_pool(server: Server) -> None:
    """A proxy that lends sessions by the transaction is known by the process that it names."""
    with PoolingProxy(server.port, size=1) as proxy:
        address = parse_address(proxy.url_for(server), 10)
        with connect(address) as one, connect(address) as other:
            assert added(one, 1, "one") == added(other, 1, "two") == 4
            assert prepared(one) == set()


def test_a_statement_that_is_gone_is_sent_whole(connection: Connection) -> None:
    """Whoever takes prepared statements away makes the calls slower, and no more."""
    assert added(connection, 1, "two") == 4
    connection.execute("DEALLOCATE ALL")
    assert added(connection, 2, "two") == added(connection, 2, "two") == 5
    assert prepared(connection) == set()


def test_a_name_that_is_taken_is_left_alone(connection: Connection) -> None:
    """Somebody else's statement is not called, even if sessions were mixed."""
    connection.execute(f"PREPARE {ADDING.name.decode()} (bigint, text) AS SELECT 0::bigint")
    assert added(connection, 2, "two") == 5


def test_what_the_server_refuses_is_raised(connection: Connection) -> None:
    """Errors have their class, and the connection goes on."""
    with pytest.raises(errors.DivisionByZero):
        call(connection, DIVIDING, (integer(0),))
    assert number_in(call(connection, DIVIDING, (integer(1),)), 0, 0) == 1
    assert number_in(call(connection, DIVIDING, (integer(None),)), 0, 0) is None
