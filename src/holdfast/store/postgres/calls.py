"""Calls of the schema's functions, with what psycopg's cursors do for each left out.

Values come in PostgreSQL's binary form already, and so does the answer. Where a connection is one
session of the server for good, a statement is prepared when it is first called. Its name is made of
its text: even where that was a mistake, because something between us and the server mixes sessions,
a name never means something else. The server then says that there is no such statement, nothing
was done, and from there on statements are sent whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import count
from struct import Struct as Binary

from msgspec import Struct
from psycopg import errors, generators
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from holdfast.store.postgres.connections import Connection

_INTEGER = Binary("!q")
_NOT_PREPARED = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)


def _nothing() -> None:
    """Have nothing to do while a call is under way."""


class Call(Struct, frozen=True):
    """A statement that calls a function, and the name that it is prepared by."""

    statement: bytes
    name: bytes


def call_of(statement: str) -> Call:
    """Return a statement of `queries.sql` as a call."""
    numbers = count(1)
    numbered = re.sub("%s", lambda _: f"${next(numbers)}", statement).encode()
    return Call(numbered, b"holdfast_" + sha256(numbered).hexdigest()[:32].encode())


def integer(value: int | None) -> bytes | None:
    """Return a `bigint`."""
    return None if value is None else _INTEGER.pack(value)


def text(value: str | None) -> bytes | None:
    """Return a `text`."""
    return None if value is None else value.encode()


def number_in(found: PGresult, row: int, column: int) -> int | None:
    """Return a `bigint` of an answer."""
    value = found.get_value(row, column)
    return None if value is None else int.from_bytes(value, "big", signed=True)


def call(
    connection: Connection,
    wanted: Call,
    values: Sequence[bytes | None],
    meanwhile: Callable[[], None] = _nothing,
) -> PGresult:
    """Call a function in a transaction of its own; raises what psycopg would raise.

    `meanwhile` is done when the call is on its way; it may be called twice.
    """
    if _keeps_statements(connection):
        try:
            return _call_prepared(connection, wanted, values, meanwhile)
        except _NOT_PREPARED:
            connection.prepared = None
    formats = [Format.BINARY] * len(values)
    connection.pgconn.send_query_params(wanted.statement, values, None, formats, Format.BINARY)
    meanwhile()
    return _answer(connection)


def _call_prepared(
    connection: Connection,
    wanted: Call,
    values: Sequence[bytes | None],
    meanwhile: Callable[[], None],
) -> PGresult:
    assert connection.prepared is not None, "it keeps statements"
    if wanted.name not in connection.prepared:
        connection.pgconn.send_prepare(wanted.name, wanted.statement)
        _answer(connection)
        connection.prepared.add(wanted.name)
    formats = [Format.BINARY] * len(values)
    connection.pgconn.send_query_prepared(wanted.name, values, formats, Format.BINARY)
    meanwhile()
    return _answer(connection)


def _keeps_statements(connection: Connection) -> bool:
    """Say whether a connection is one session of the server for good.

    A proxy that lends sessions by the transaction tells its clients a process of its own making,
    because what they send to cancel a call has to reach the proxy.
    """
    if connection.asked is False:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if row is not None and row[0] == connection.info.backend_pid:
            connection.prepared = set()
        connection.asked = True
    return connection.prepared is not None


def _answer(connection: Connection) -> PGresult:
    found: PGresult = connection.wait(generators.execute(connection.pgconn))[-1]
    if found.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise errors.error_from_result(found, encoding=connection.info.encoding)
    return found
