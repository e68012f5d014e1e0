"""What a store asks of PostgreSQL, as it asks it, and how PostgreSQL goes about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import psycopg

from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.queries import queries


class Asked(NamedTuple):
    """A statement of `queries.sql`, by its name, with its values."""

    name: str
    statement: str
    values: Any


class Step(NamedTuple):
    """One step of a plan: what it does, with which table or index, and for how many rows."""

    kind: str
    relation: str
    rows: float


@contextmanager
def recording(schema: str) -> Iterator[list[Asked]]:
    """Record every statement of `queries.sql` that this process sends meanwhile."""
    names = {statement: name for name, statement in queries(schema).items()}
    asked: list[Asked] = []
    execute = Connection.execute

    def record(self: Connection, query: Any, params: Any = None, **more: Any) -> Any:
        if query in names:
            asked.append(Asked(names[query], query, params))
        return execute(self, query, params, **more)

    with mock.patch.object(Connection, "execute", record):
        yield asked


def plan(connection: psycopg.Connection[Any], asked: Asked) -> list[Step]:
    """Return the steps of the plan that PostgreSQL makes for a statement with its values."""
    row = connection.execute(
        f"EXPLAIN (FORMAT JSON) {asked.statement}".encode(), asked.values
    ).fetchone()
    assert row is not None
    return list(_steps(row[0][0]["Plan"]))


def _steps(node: dict[str, Any]) -> Iterator[Step]:
    relation = node.get("Index Name") or node.get("Relation Name") or ""
    yield Step(node["Node Type"], relation, node["Plan Rows"])
    for child in node.get("Plans", ()):
        yield from _steps(child)
