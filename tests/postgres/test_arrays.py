"""Arrays in PostgreSQL's binary form: the server takes from them what was put in, and back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from holdfast.store.postgres.arrays import (
    booleans,
    booleans_in,
    integers,
    integers_in,
    learn_arrays,
    texts,
)
from holdfast.testing.postgres import Server

FAR = 2**63 - 1


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection]:
    """A connection that sends arrays."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        learn_arrays(connection)
        yield connection


@pytest.mark.parametrize(
    "values", [[], [7], [7, 7, 7], [1, -FAR, FAR], [None], [None, None], [1, None, 1]]
)
def test_numbers(connection: psycopg.Connection, values: list[int | None]) -> None:
    """Numbers arrive, whether they are all the same, none is, or some are null."""
    sent = connection.execute("SELECT %s", (integers(values),)).fetchone()
    assert sent == (values,)


@pytest.mark.parametrize("values", [[], [True], [True, False, None], [None, None]])
def test_truth_values(connection: psycopg.Connection, values: list[bool | None]) -> None:
    """So do truth values."""
    assert connection.execute("SELECT %s", (booleans(values),)).fetchone() == (values,)


@pytest.mark.parametrize("values", [[], ["a", "a"], ["", "ä€", None], [None]])
def test_texts(connection: psycopg.Connection, values: list[str | None]) -> None:
    """So do texts."""
    assert connection.execute("SELECT %s", (texts(values),)).fetchone() == (values,)


def test_what_is_answered(connection: psycopg.Connection) -> None:
    """What the server sends is what it was told to send."""
    cursor = connection.cursor(binary=True)
    cursor.execute("SELECT ARRAY[1, -2, 9223372036854775807]::bigint[], ARRAY[true, false, true]")
    found = cursor.pgresult
    assert found is not None
    assert integers_in(found.get_value(0, 0)) == (1, -2, FAR)
    assert booleans_in(found.get_value(0, 1)) == (True, False, True)
