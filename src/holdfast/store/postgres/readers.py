"""Snapshots: reads of one moment, each in few round trips."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from holdfast.errors import Unavailable
from holdfast.store.postgres import faults
from holdfast.store.postgres.connections import Connection, Connections
from holdfast.store.postgres.outages import PAUSE_S
from holdfast.store.postgres.queries import FOR_EVER, queries
from holdfast.store.postgres.sharding import shard_of

T = TypeVar("T")


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

    def ask_in_order(self, name: str, *values: object) -> psycopg.Cursor[Any]:
        """Send a statement whose rows an index has in their order.

        Of a table that was never analyzed PostgreSQL believes that the tenant alone finds few rows,
        and would rather read and sort them all. What the snapshot is asked later is not sorted
        either.
        """
        self.ask("no_sorts")
        return self.ask(name, *values)

    def ask_session(self, name: str, session_id: str) -> psycopg.Cursor[Any]:
        """Send a statement about one session."""
        return self.ask(name, shard_of(self.tenant, session_id), self.tenant, session_id)


class Readers:
    """Reads from snapshots."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._address = connections.address

    def read(self, tenant: str, what: Callable[[Snapshot], T]) -> T:
        """Return what a function reads from a snapshot.

        It is one transaction, and never spans a caller's code. While the server does not answer it
        is tried again.
        """
        while True:
            try:
                return self._read(tenant, what)
            except Unavailable as error:
                if error.code != "unreachable":
                    raise
                self._connections.outage.note(error)
                self._connections.close()
                time.sleep(PAUSE_S)

    def _read(self, tenant: str, what: Callable[[Snapshot], T]) -> T:
        try:
            with self._connections.lend() as connection, connection.pipeline():
                snapshot = Snapshot(connection, self._address.schema, tenant)
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                snapshot.ask("set_tenant", tenant, FOR_EVER)
                found = what(snapshot)
                connection.execute("COMMIT")
        except psycopg.Error as error:
            raise faults.translated(error, self._address.location) from error
        return found
