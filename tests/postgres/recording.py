"""What a store asks of PostgreSQL, as it asks it, and how PostgreSQL goes about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import psycopg
from psycopg.pq.abc import PGresult

from holdfast.store.postgres import writer
from holdfast.store.postgres.calls import Call, call
from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.queries import calls, queries


class Asked(NamedTuple):
    """A statement of `queries.sql`, by its name, with its values.

    `settings` are the statements before it in its transaction that change how it is run.
    """

    name: str
    statement: str
    values: Any
    settings: tuple[str, ...]


class Step(NamedTuple):
    """One step of a plan that was run: what it does, with what, and how much it took."""

    kind: str
    relation: str
    rows: int
    dropped: int  # rows that it looked at in vain
    blocks: int  # pages of tables and indexes, those of its own steps included


@contextmanager
def recording(schema: str) -> Iterator[list[Asked]]:
    """Record every statement of `queries.sql` that this process sends meanwhile."""
    names = {statement: name for name, statement in queries(schema).items()}
    called = {one: name for name, one in calls(schema).items()}
    asked: list[Asked] = []
    settings: dict[Connection, list[str]] = {}  # each transaction sets its tenant first
    execute = Connection.execute

    def record(self: Connection, query: Any, params: Any = None, **more: Any) -> Any:
        if query in names:
            asked.append(Asked(names[query], query, params, tuple(settings.get(self, ()))))
        if names.get(query) in ("only_indexes", "no_sorts"):
            settings.setdefault(self, []).append(query)
        elif names.get(query) == "set_tenant":
            settings.pop(self, None)
        return execute(self, query, params, **more)

    def record_call(connection: Connection, wanted: Call, values: Any, *more: Any) -> PGresult:
        name = called[wanted]
        asked.append(Asked(name, queries(schema)[name], values, ()))
        return call(connection, wanted, values, *more)

    with (
        mock.patch.object(Connection, "execute", record),
        mock.patch.object(writer, "call", record_call),
    ):
        yield asked


def run_plan(connection: psycopg.Connection[Any], asked: Asked) -> list[Step]:
    """Run a statement with its values, undo it, and return the steps of its plan."""
    with connection.transaction(force_rollback=True):
        for setting in asked.settings:
            connection.execute(setting.encode())
        row = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {asked.statement}".encode(), asked.values
        ).fetchone()
    assert row is not None
    return list(_steps(row[0][0]["Plan"]))


def _steps(node: dict[str, Any]) -> Iterator[Step]:
    times = node["Actual Loops"]
    yield Step(
        node["Node Type"],
        node.get("Index Name") or node.get("Relation Name") or node.get("Function Name") or "",
        int(node["Actual Rows"] * times),
        int(node.get("Rows Removed by Filter", 0) * times),
        node["Shared Hit Blocks"] + node["Shared Read Blocks"],
    )
    for child in node.get("Plans", ()):
        yield from _steps(child)
