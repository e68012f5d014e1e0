"""Snapshots: reads of one moment, each in few round trips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from holdfast.store.postgres import faults
from holdfast.store.postgres.connections import Connection, Connections
from holdfast.store.postgres.queries import queries
from holdfast.store.postgres.sharding import shard_of


class Snapshot:
    """Runs statements of `queries.sql` that all see one moment of one tenant's rows.

    What is asked is sent at once and awaited when its rows are fetched: what does not depend on an
    answer shares a round trip.
    """

    def __init__(self, connection: Connection, schema: str, tenant: str) -> None:
        self.tenant = tenant
        self._connection = connection
        self._queries = queries(schema)

    def ask(self, name: str, *values: object) -> psycopg.Cursor[Any]:
        """Send a statement."""
        return self._connection.execute(self._queries[name], values, binary=True)

    def ask_session(self, name: str, session_id: str) -> psycopg.Cursor[Any]:
        """Send a statement about one session."""
        return self.ask(name, shard_of(self.tenant, session_id), self.tenant, session_id)


class Readers:
    """Opens snapshots."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._address = connections.address

    @contextmanager
    def snapshot(self, tenant: str) -> Iterator[Snapshot]:
        """Open a snapshot; a read is one transaction, and never spans a caller's code."""
        try:
            with self._connections.lend() as connection, connection.pipeline():
                snapshot = Snapshot(connection, self._address.schema, tenant)
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                snapshot.ask("set_tenant", tenant)
                yield snapshot
                connection.execute("COMMIT")
        except psycopg.Error as error:
            raise faults.translated(error, self._address.location) from error
