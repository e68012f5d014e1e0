"""Commits batches: what only appends in one round trip, whatever is left by the rules.

Every write has a key: the caller's or an invented one. So when a connection is cut after a commit
was sent, the batch is sent again on another one, and each write happens once, whichever of the two
the server had done. Only when nobody answers for as long as a call may take is the outcome unknown.

Whoever holds a session's row, in whatever program, holds up the writes to that session alone: the
server gives up waiting before its client does, which leaves no doubt and nothing behind. Such a
write is refused as `contended`, and the engine sends it again while its caller waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby

import psycopg

from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.write import Write, WriteKind
from holdfast.store.backend import Outcome
from holdfast.store.postgres import faults
from holdfast.store.postgres.arrays import booleans_in, integers_in
from holdfast.store.postgres.calls import call, number_in
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
LEAST_WAIT_S, MOST_WAIT_S = 0.01, 0.5
WAITS = 8
"""A batch waits for locks for an eighth of a call's time, within these bounds.

The process writes nothing else meanwhile; the least is for each lock when that time is over.
"""

RACES = 10
"""How often a transaction is tried that others, who ran beside it, caused to be undone."""


class Writer:
    """Does batches of writes, each write once."""

    def __init__(self, connections: Connections, sources: Sources) -> None:
        self._connections = connections
        self._sources = sources
        self._address = connections.address
        self._wait_s = min(MOST_WAIT_S, self._address.timeout_s / WAITS)
        self._wait_until = 0.0
        self._held_up: dict[tuple[str, str], psycopg.Error] = {}
        self._held = ExitStack()
        self._connection: Connection | None = None
        self._work: Callable[[], None] | None = None

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

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Do something once, as soon as the next batch's first call waits for its answer."""
        self._work = work

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes, those of one session in their order; all durable when this returns."""
        try:
            return self._commit_until_known(writes)
        finally:
            self._do_work()

    def _commit_until_known(self, writes: Sequence[Write]) -> list[Outcome]:
        new_id = self._sources.new_id
        batch = _Batch([Stamped(write, f"w_{new_id()}") for write in writes])
        deadline = time.monotonic() + self._address.timeout_s
        pause_s = 0.0  # most often it was the connection that broke, not the server
        while True:
            try:
                self._commit(self._connection or self._connect(), batch)
                return batch.outcomes()
            except Unavailable as error:
                failure: Exception = error
            except psycopg.Error as error:
                if not (faults.is_connection_lost(error) or faults.is_held_up(error)):
                    raise faults.translated(error, self._address.location) from error
                failure = error
                if not isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                    batch.in_doubt = True
            self._do_work()
            self.finish()
            self._connections.close()  # what is kept for later use led to the server that is gone
            if time.monotonic() + pause_s > deadline:
                batch.give_up(self._last_word(failure, in_doubt=batch.in_doubt))
                return batch.outcomes()
            time.sleep(pause_s)
            pause_s = min(max(2 * pause_s, PAUSE_S), MAX_PAUSE_S)

    def _do_work(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()

    def _last_word(self, failure: Exception, *, in_doubt: bool) -> HoldfastError:
        if in_doubt:
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
        self._wait_until = time.monotonic() + self._wait_s
        late, self._held_up = self._held_up, {}
        for group in batch.groups(late):
            self._commit_group(connection, group, batch)
        if batch.in_doubt:
            for error in self._held_up.values():
                raise error  # perhaps by what was sent before: only another look can tell

    def _commit_group(
        self, connection: Connection, group: Sequence[Stamped], batch: _Batch
    ) -> None:
        """Do writes of one tenant, those of sessions that others hold excepted."""
        try:
            self._commit_together(connection, group, batch)
        except psycopg.errors.LockNotAvailable as error:
            sessions = by_session(batch.unsettled(group))
            for name, some in sessions.items():
                if len(sessions) > 1:
                    self._commit_group(connection, some, batch)
                    continue
                self._held_up[name] = error
                if not batch.in_doubt:
                    batch.refuse(name, _held_up(name[1], error))

    def _commit_together(
        self, connection: Connection, group: Sequence[Stamped], batch: _Batch
    ) -> None:
        tenant = group[0].write.tenant
        others = [s for s in group if s.write.kind is not WriteKind.INDEX]
        appends, rest = gathered(others, batch.decided)
        if not appends or len(others) < len(group):
            self._do_work()  # first there is something that has more than one answer to wait for
        for stamped in group:
            if stamped.write.kind is WriteKind.INDEX:
                batch.settle(stamped, self._index(connection, tenant))
        if appends:
            rest = _in_order(group, rest + self._append(connection, tenant, appends, batch))
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
            if faults.is_held_up(error):
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
            values = lone_parameters(self._wait_ms(), tenant, self._now(), appends[0])
            found = call(connection, known["append"], values, self._do_work)
            revision = number_in(found, 0, 0)
            if revision is not None:
                return [(1, revision, revision, False)]
        values = parameters(self._wait_ms(), tenant, self._now(), appends)
        found = call(connection, known["commit"], values, self._do_work)
        revisions, histories = (integers_in(found.get_value(0, column)) for column in range(2))
        interrupted = booleans_in(found.get_value(0, 2))
        answers = zip(range(1, len(appends) + 1), revisions, histories, interrupted, strict=True)
        return [one for one in answers if one[1]]

    def _decide(
        self, connection: Connection, tenant: str, rest: Sequence[Stamped], batch: _Batch
    ) -> None:
        """Let the rules decide writes in few transactions, or each in its own if one fails."""
        while rest:
            try:
                self._in_transaction(connection, tenant, rest, batch)
            except psycopg.Error as error:
                if faults.is_connection_lost(error) or faults.is_held_up(error):
                    raise
                if len(rest) == 1:
                    batch.settle(rest[0], faults.translated(error, self._address.location))
                    return
                for stamped in rest:
                    self._decide(connection, tenant, batch.unsettled([stamped]), batch)
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
                wait_ms=self._wait_ms(),
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
                    for name in by_session(rest):
                        batch.refuse(name, self._contended(name[1], error, batch))
                    return
            except BaseException:
                transaction.roll_back()
                raise
            else:
                for stamped, outcome in decided:
                    batch.settle(stamped, outcome)
                return

    def _contended(self, session_id: str, error: Exception, batch: _Batch) -> HoldfastError:
        if batch.in_doubt:
            failure: HoldfastError = faults.unknown_outcome(error, self._address.location)
        else:
            failure = Unavailable(
                f"session {session_id!r} was changed by others each time it was to be written, "
                f"{RACES} times; nothing was written",
                code="contended",
                hint="try again",
            )
        failure.__cause__ = error
        return failure

    def _wait_ms(self) -> str:
        """Return how long a statement may wait for a lock, in milliseconds."""
        wait_s = max(LEAST_WAIT_S, min(self._wait_s, self._wait_until - time.monotonic()))
        return str(round(1000 * wait_s))

    def _now(self) -> int | None:
        return None if self._sources.real_time else self._sources.now_ms()


class _Batch:
    """The writes of a batch, and what is known of each.

    `in_doubt` says that some may have been written by a statement that nobody answered.
    """

    def __init__(self, stamped: Sequence[Stamped]) -> None:
        self.decided: dict[str, Outcome] = {}
        self.deleted: dict[str, int] = {}
        self.in_doubt = False
        self._all = stamped
        self._settled: dict[str, Outcome] = {}

    def groups(self, held_up: Container[tuple[str, str]]) -> Iterator[list[Stamped]]:
        """Yield the writes that are not settled, tenant by tenant, in the order of locking.

        Those of sessions that were `held_up` come last, each session by itself.
        """
        open_ones = self.unsettled(self._all)
        open_ones.sort(key=lambda stamped: (stamped.write.tenant, stamped.write.session_id))
        late = by_session(stamped for stamped in open_ones if session_of(stamped) in held_up)
        if late:
            open_ones = [stamped for stamped in open_ones if session_of(stamped) not in late]
        for _, found in groupby(open_ones, key=lambda stamped: stamped.write.tenant):
            yield list(found)
        yield from late.values()

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

    def refuse(self, session: tuple[str, str], error: HoldfastError) -> None:
        """Let what is not settled of a session fail: its writes keep their order."""
        for stamped in self.unsettled(self._all):
            if session_of(stamped) == session:
                self.settle(stamped, error.twin())

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


def session_of(stamped: Stamped) -> tuple[str, str]:
    """Return the tenant and the id of the session that a write is about."""
    return stamped.write.tenant, stamped.write.session_id


def by_session(some: Iterable[Stamped]) -> dict[tuple[str, str], list[Stamped]]:
    """Return writes session by session."""
    found: dict[tuple[str, str], list[Stamped]] = {}
    for stamped in some:
        found.setdefault(session_of(stamped), []).append(stamped)
    return found


def _held_up(session_id: str, error: Exception) -> Unavailable:
    failure = Unavailable(
        f"others hold session {session_id!r} locked in the database; nothing was written",
        code="contended",
        hint="holdfast doctor shows who keeps others waiting; then try again",
    )
    failure.__cause__ = error
    return failure
