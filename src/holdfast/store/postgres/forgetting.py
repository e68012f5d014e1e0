"""Forgets invented keys: a write whose answer was lost a day ago is not sent again.

It follows commits, apart from them: of a tenant that was written to, a slice at a time, each a
short transaction that does not wait for the disk. Where there is little it looks once a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.queries import FOR_EVER, queries
from holdfast.store.sources import Sources

AGE_MS = 24 * 60 * 60 * 1000
EVERY_S = 60.0

SLICE = 1000
"""About how many keys go in one transaction: those of one moment go together."""


class Forgetter:
    """Remembers which tenants were written to, and forgets what is old of theirs."""

    def __init__(self, schema: str, sources: Sources) -> None:
        self._queries = queries(schema)
        self._sources = sources
        self._lock = threading.RLock()
        self._written: set[str] = set()
        self._not_before: dict[str, float] = {}

    def written(self, tenants: Iterable[str]) -> None:
        """Remember that these tenants have new keys, and so may have old ones."""
        with self._lock:
            self._written.update(tenants)

    def forget_some(self, connection: Connection) -> bool:
        """Forget a slice of one tenant's old keys, if it is time; say whether there is more to do.

        If that fails, the tenant's turn comes again when it would have come anyway.
        """
        now = self._sources.monotonic_s()
        with self._lock:
            due = [tenant for tenant in self._written if self._not_before.get(tenant, now) <= now]
            if not due:
                return False
            tenant = due[0]
            self._written.discard(tenant)
            # Who looks again after their time anyway need not be remembered.
            self._not_before = {t: at for t, at in self._not_before.items() if at > now}
            self._not_before[tenant] = now + EVERY_S
        more = self._forget(connection, tenant)
        with self._lock:
            if more:
                self._written.add(tenant)
                del self._not_before[tenant]
        return more or len(due) > 1

    def _forget(self, connection: Connection, tenant: str) -> bool:
        """Forget a slice of a tenant's old keys; say whether it was a whole one."""
        with connection.transaction():
            with connection.pipeline():
                connection.execute(self._queries["set_tenant"], (tenant, FOR_EVER))
                connection.execute(self._queries["loose_commit"])
                connection.execute(self._queries["only_indexes"])
                row = connection.execute(self._queries["now"]).fetchone()
            assert row is not None, "the time is always told"
            now_ms = int(row[0]) if self._sources.real_time else self._sources.now_ms()
            old = now_ms - AGE_MS
            last = connection.execute(
                self._queries["last_of_slice"], (tenant, old, SLICE - 1)
            ).fetchone()
            until = old if last is None else int(last[0]) + 1
            connection.execute(self._queries["forget_invented"], (tenant, until))
        return last is not None
