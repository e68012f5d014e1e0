"""Commits batches: what only appends in one round trip, whatever is left by the rules.

Every write has a key: the caller's or an invented one. So when a connection is cut after a commit
was sent, the batch is sent again on another one, and each write happens once, whichever of the two
the server had done. Only when nobody answers for as long as a call may take is the outcome unknown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby

import psycopg

from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.write import Write, WriteKind
from holdfast.store.backend import Outcome
from holdfast.store.postgres import faults
from holdfast.store.postgres.calls import call, number_in, numbers_in, truth_in
from holdfast.store.postgres.connections import Connection, Connections
from holdfast.store.postgres.indexing import fill
from holdfast.store.postgres.outages import PAUSE_S
from holdfast.store.postgres.plain import (
    Append,
    Stamped,
    gathered,
    lone_parameters,
    parameters,
)
from holdfast.store.postgres.queries import calls
from holdfast.store.postgres.transaction import Raced, Transaction
from holdfast.store.sources import Sources

MAX_PAUSE_S = 1.0
RACES = 10
"""How often a transaction is tried that others, who ran beside it, caused to be undone."""


class Writer:
    """Does batches of writes, each write once."""

    def __init__(self, connections: Connections, sources: Sources) -> None:
        self._connections = connections
        self._sources = sources
        self._address = connections.address
        self._held = ExitStack()
        self._connection: Connection | None = None

    def begin(self, *, wait: bool) -> bool:
        """Get hold of a connection; false if the server does not answer, but may do so soon."""
        self.finish()  # what an interrupt left open
        try:
            self._connect()
        except Unavailable as error:
            self._connections.outage.note(error)
            if wait:
                time.sleep(PAUSE_S)
            return False
        return True

    def finish(self) -> None:
        """Let go of the connection."""
        self._connection = None
        self._held.close()

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes, those of one session in their order; all durable when this returns."""
        new_id = self._sources.new_id
        batch = _Batch([Stamped(write, f"w_{new_id()}") for write in writes])
        deadline = time.monotonic() + self._address.timeout_s
        pause_s = 0.0  # most often it was the connection that broke, not the server
        refused = True  # each time until now: nothing of what is left was written
        while True:
            try:
                self._commit(self._connection or self._connect(), batch)
                return batch.outcomes()
            except Unavailable as error:
                failure: Exception = error
            except psycopg.Error as error:
                if not faults.is_connection_lost(error):
                    raise faults.translated(error, self._address.location) from error
                failure = error
                refused = refused and isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
            self.finish()
            self._connections.close()  # what is kept for later use led to the server that is gone
            if time.monotonic() + pause_s > deadline:
                batch.give_up(self._last_word(failure, refused=refused))
                return batch.outcomes()
            time.sleep(pause_s)
            pause_s = min(max(2 * pause_s, PAUSE_S), MAX_PAUSE_S)

    def _last_word(self, failure: Exception, *, refused: bool) -> HoldfastError:
        if not refused:
            error: HoldfastError = faults.unknown_outcome(failure, self._address.location)
        elif isinstance(failure, psycopg.Error):
            error = faults.translated(failure, self._address.location)
        else:
            assert isinstance(failure, Unavailable), "no connection was to be had"
            return failure
        error.__cause__ = failure
        return error

    def _connect(self) -> Connection:
        self._connection = self._held.enter_context(self._connections.lend(to_write=True))
        return self._connection

    def _commit(self, connection: Connection, batch: _Batch) -> None:
        for tenant, open_ones in batch.by_tenant():
            for stamped in open_ones:
                if stamped.write.kind is WriteKind.INDEX:
                    batch.settle(stamped, self._index(connection, tenant))
            others = [s for s in open_ones if s.write.kind is not WriteKind.INDEX]
            appends, rest = gathered(others, batch.decided)
            if appends:
                rest = _in_order(open_ones, rest + self._append(connection, tenant, appends, batch))
            if rest:
                self._decide(connection, tenant, rest, batch)

    def _index(self, connection: Connection, tenant: str) -> Outcome:
        try:
            return fill(connection, self._address.schema, tenant)
        except psycopg.Error as error:
            if faults.is_connection_lost(error):
                raise
            return faults.translated(error, self._address.location)

    def _append(
        self, connection: Connection, tenant: str, appends: Sequence[Append], batch: _Batch
    ) -> list[Stamped]:
        """Let the server do what it can; return the writes that the rules have to decide."""
        left = dict(enumerate(appends, 1))
        try:
            found = self._appended(connection, tenant, appends)
        except psycopg.Error as error:
            if faults.is_connection_lost(error) or faults.is_about_the_schema(error):
                raise
            found = []  # undone as a whole: each has to show by itself what it is
        for number, revision, history, interrupted in found:
            done = left.pop(number).answers(revision, history, interrupted=interrupted)
            for stamped, outcome in done:
                batch.settle(stamped, outcome)
        return [stamped for append in left.values() for stamped in append.stamped]

    def _appended(
        self, connection: Connection, tenant: str, appends: Sequence[Append]
    ) -> list[tuple[int, int, int, bool]]:
        """Return each append that was done: its number, revisions, whether its turn is to stop."""
        known = calls(self._address.schema)
        if len(appends) == 1 and appends[0].is_lone():
            found = call(
                connection, known["append"], lone_parameters(tenant, self._now(), appends[0])
            )
            revision = number_in(found, 0, 0)
            if revision is not None:
                return [(1, revision, revision, False)]
        found = call(connection, known["commit"], parameters(tenant, self._now(), appends))
        return [(*numbers_in(found, row), truth_in(found, row, 3)) for row in range(found.ntuples)]

    def _decide(
        self, connection: Connection, tenant: str, rest: Sequence[Stamped], batch: _Batch
    ) -> None:
        """Let the rules decide writes in few transactions, or each in its own if one fails."""
        while rest:
            try:
                self._in_transaction(connection, tenant, rest, batch)
            except psycopg.Error as error:
                if faults.is_connection_lost(error):
                    raise
                if len(rest) == 1:
                    batch.settle(rest[0], faults.translated(error, self._address.location))
                    return
                for stamped in rest:
                    self._decide(connection, tenant, [stamped], batch)
            rest = batch.unsettled(rest)

    def _in_transaction(
        self, connection: Connection, tenant: str, rest: Sequence[Stamped], batch: _Batch
    ) -> None:
        earlier = batch.decided
        for attempt in range(1, RACES + 1):
            schema = self._address.schema
            transaction = Transaction(
                connection,
                schema,
                tenant,
                self._now(),
                earlier=earlier,
                deleted=batch.deleted,
            )
            try:
                decided = transaction.decide(rest)
                batch.remember(decided)
                transaction.commit()
            except (psycopg.Error, Raced) as error:
                if faults.is_connection_lost(error):
                    raise
                transaction.roll_back()
                batch.decided = earlier
                if isinstance(error, psycopg.Error) and not faults.may_be_repeated(error):
                    raise
                if attempt == RACES:
                    for stamped in rest:
                        batch.settle(stamped, _contended(stamped, error))
                    return
            except BaseException:
                transaction.roll_back()
                raise
            else:
                for stamped, outcome in decided:
                    batch.settle(stamped, outcome)
                return

    def _now(self) -> int | None:
        return None if self._sources.real_time else self._sources.now_ms()


class _Batch:
    """The writes of a batch, and what is known of each."""

    def __init__(self, stamped: Sequence[Stamped]) -> None:
        self.decided: dict[str, Outcome] = {}
        self.deleted: dict[str, int] = {}
        self._all = stamped
        self._settled: dict[str, Outcome] = {}

    def by_tenant(self) -> Iterator[tuple[str, list[Stamped]]]:
        """Yield the writes that are not settled, tenant by tenant, in the order of locking."""
        open_ones = self.unsettled(self._all)
        open_ones.sort(key=lambda stamped: (stamped.write.tenant, stamped.write.session_id))
        for tenant, found in groupby(open_ones, key=lambda stamped: stamped.write.tenant):
            yield tenant, list(found)

    def unsettled(self, some: Sequence[Stamped]) -> list[Stamped]:
        """Return those of which it is not known what they came to."""
        return [stamped for stamped in some if stamped.id not in self._settled]

    def remember(self, decided: Sequence[tuple[Stamped, Outcome]]) -> None:
        """Keep what a transaction that is about to be committed says, should no answer come."""
        known = {stamped.id: outcome for stamped, outcome in decided}
        self.decided = {**self.decided, **known}

    def settle(self, stamped: Stamped, outcome: Outcome) -> None:
        """Keep what a write came to."""
        self._settled[stamped.id] = outcome

    def give_up(self, error: HoldfastError) -> None:
        """Let what is not settled fail."""
        for stamped in self.unsettled(self._all):
            self.settle(stamped, error.twin())

    def outcomes(self) -> list[Outcome]:
        """Return what the writes came to, in the order of the batch."""
        return [self._settled[stamped.id] for stamped in self._all]


def _in_order(batch: Sequence[Stamped], some: Sequence[Stamped]) -> list[Stamped]:
    wanted = {stamped.id for stamped in some}
    return [stamped for stamped in batch if stamped.id in wanted]


def _contended(stamped: Stamped, error: BaseException) -> Unavailable:
    failure = Unavailable(
        f"session {stamped.write.session_id!r} was changed by others each time it was to be "
        f"written, {RACES} times; nothing was written",
        code="contended",
        hint="try again",
    )
    failure.__cause__ = error
    return failure
