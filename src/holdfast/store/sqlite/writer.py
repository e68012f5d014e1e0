"""The one connection that writes: batches in, outcomes out.

Inside one `BEGIN IMMEDIATE` the rules are evaluated on session rows held in memory, then everything
is written in bulk; there is no savepoint per write. What is cached from earlier batches is true
while `PRAGMA data_version` says that no other connection has committed. The caches change only
after COMMIT returned.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from operator import itemgetter

from msgspec.structs import replace

from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.commit import Deletion, Erasure, Purge
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.search import Indexed
from holdfast.model.session import SessionRow, new_session
from holdfast.model.turn import Ticket
from holdfast.model.write import KeyRow, Write, WriteKind
from holdfast.rules.committing import decide
from holdfast.rules.decision import Decision, rank_after
from holdfast.store.backend import Outcome
from holdfast.store.sources import Sources
from holdfast.store.sqlite import arrivals, faults
from holdfast.store.sqlite.arrivals import Arrivals
from holdfast.store.sqlite.connections import Database
from holdfast.store.sqlite.indexing import Index, IndexUseless, tidy
from holdfast.store.sqlite.queries import queries, read_bulk, run_bulk

MAX_CACHED = 4096
ERASURE = "erasure_pending"
ERASE_AGAIN_S = 1.0
SLOW_ERASURE_S = 0.1

Place = tuple[str, str]

_MOVING = (
    "pk",
    "revision",
    "history_revision",
    "base",
    "message_count",
    "updated",
    "lease_until",
    "interrupt_fence",
    "rank",
)
_place = itemgetter(*map(SessionRow._fields.index, _MOVING))
"""What of a session's row `move_sessions` writes."""

_rest = itemgetter(*(i for i, name in enumerate(SessionRow._fields) if name not in _MOVING))
"""What else it says: if that is as it was, the session only moved on."""


class Writer:
    """Commits batches on one connection, which holds the write lock from `begin` to `finish`."""

    def __init__(self, database: Database, sources: Sources) -> None:
        self._database = database
        self._sources = sources
        self._cache: dict[Place, SessionRow] = {}
        self._ranks: dict[str, int] = {}
        self._data_version = -1
        self.connection = database.writer()
        self._arrived = 0
        self._knows_arrivals = False
        self._erasure_due = self._is_erasure_due()
        self._erase_again_at = 0.0
        self.met_others = False  # whether somebody committed since the last time, or does just now
        self.broken = False

    def begin(self) -> bool:
        """Take the write lock; false if another connection holds it."""
        self.finish()  # what an interrupt left open
        self.met_others = True
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            (version,) = self.connection.execute("PRAGMA data_version").fetchone()
            self.met_others = version != self._data_version
            if self.met_others or len(self._cache) > MAX_CACHED:
                self._cache.clear()
                self._ranks.clear()
                self._arrived = arrivals.count(self.connection)
                self._knows_arrivals = self._knows_arrivals or arrivals.may_be_used(self.connection)
                self._erasure_due = self._is_erasure_due()
                self._data_version = version
        except BaseException as error:
            self.finish()
            if not isinstance(error, sqlite3.Error):
                raise
            if faults.is_busy(error):
                return False
            raise faults.translated(error, self._database.location) from error
        return True

    def finish(self) -> None:
        """Let go of the write lock; whatever was not committed is undone."""
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.broken = True  # closing the connection undoes it

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes in the transaction that `begin` opened, and commit it."""
        arrived = Arrivals(self.connection, self._arrived, known=self._knows_arrivals)
        batch = _Batch(self.connection, self._cache, self._ranks, arrived, self._sources.now_ms())
        try:
            outcomes = batch.do_all(writes)
        except BaseException as error:
            self.finish()
            if isinstance(error, IndexUseless):
                return self._commit_without_index(writes)
            alone = len(writes) == 1
            if isinstance(error, sqlite3.Error) and (alone or faults.is_about_the_disk(error)):
                raise faults.translated(error, self._database.location) from error
            if alone or not isinstance(error, Exception):
                raise
            return [self._commit_singly(write) for write in writes]
        self._commit_batch(batch)
        return self._after_commit(batch, outcomes)

    def _commit_singly(self, write: Write) -> Outcome:
        """Commit one write of a batch that failed, so that a bad one fails alone."""
        try:
            if self.broken or not self.begin():
                return Unavailable(f"{self._database.location} cannot be written just now")
            return self.commit([write])[0]
        except HoldfastError as error:
            return error
        except Exception as error:  # noqa: BLE001 - nobody foresaw it, and it must not take others along
            return Unavailable(
                f"session {write.session_id!r} cannot take this write: {error!r}", retryable=False
            )

    def _commit_without_index(self, writes: Sequence[Write]) -> list[Outcome]:
        """Forget the search index, and commit the writes again: none of them needs it."""
        if not self.begin():
            raise Unavailable(f"{self._database.location} cannot be written just now")
        try:
            Index(self.connection).forget()
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.finish()
            raise faults.translated(error, self._database.location) from error
        return [
            Indexed(0, complete=True)
            if write.kind is WriteKind.INDEX
            else self._commit_singly(write)
            for write in writes
        ]

    def _commit_batch(self, batch: _Batch) -> None:
        version = self._data_version
        # Until both are true again, whatever comes between, such as Ctrl-C:
        self._data_version = -1
        self._erasure_due = self._erasure_due or batch.leaves_traces
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if faults.is_busy(error):  # a rollback journal under a reader: certainly not written
                self.finish()
                raise faults.translated(error, self._database.location) from error
            # The kernel may report a failed write once and then forget it, so a later sync on this
            # connection would prove nothing: it is not used again.
            self.broken = True
            raise faults.unknown_outcome(error, self._database.location) from error
        self._cache.update(batch.sessions)
        self._ranks.update(batch.ranks)
        self._arrived = batch.arrivals.count
        for place in batch.deleted:
            self._cache.pop(place, None)
        self._data_version = version

    def _after_commit(self, batch: _Batch, outcomes: list[Outcome]) -> list[Outcome]:
        """Erase what is due. The batch is durable, so nothing here may fail it."""
        due = self._erasure_due and self._sources.monotonic_s() >= self._erase_again_at
        erasure: Erasure = self._erase() if due else "pending"
        if not batch.leaves_traces:
            return outcomes
        return [
            replace(outcome, erasure=erasure)
            if isinstance(outcome, Deletion | Purge) and outcome.erasure != "none"
            else outcome
            for outcome in outcomes
        ]

    def _erase(self) -> Erasure:
        """Overwrite what was deleted or purged, unless somebody still reads it.

        Deleting overwrites rows, but rows that moved between pages leave copies in the unused parts
        of both: only rewriting the file removes these, and only merging the search index what was
        taken out of it. Then the write-ahead log is emptied. What cannot be done now is remembered
        in the file, shown by doctor, and tried again. A file that takes long to rewrite is
        rewritten so seldom that it costs a twentieth of the time.
        """
        started = self._sources.monotonic_s()
        self._erase_again_at = started + ERASE_AGAIN_S
        try:
            if not self._empty_log():
                return "pending"
            tidy(self.connection)
            if not (self._rewrite() and self._empty_log()):
                return "pending"
            self.connection.execute(queries()["drop_store_value"], (ERASURE,))
        except Exception:  # noqa: BLE001 - it stays due; the batch before it is durable
            return "pending"
        finally:
            self._data_version = -1
        took = self._sources.monotonic_s() - started
        self._erase_again_at = started + took + (20 * took if took > SLOW_ERASURE_S else 0)
        self._erasure_due = False
        return "done"

    def _empty_log(self) -> bool:
        (blocked, *_) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not blocked

    def _rewrite(self) -> bool:
        self.connection.execute("VACUUM")
        return True

    def close(self) -> None:
        """Close the connection; what is still to be erased is tried once more."""
        if self._erasure_due and not self.broken:
            self._erase()
        self.release()

    def release(self) -> None:
        """Close the connection, and nothing else."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()

    def _is_erasure_due(self) -> bool:
        found = self.connection.execute(queries()["store_value"], (ERASURE,)).fetchone()
        return found is not None


class _Batch:
    """What a batch is to write, and the sessions as its earlier writes left them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        known: dict[Place, SessionRow],
        known_ranks: dict[str, int],
        arrivals: Arrivals,
        now: int,
    ) -> None:
        self.sessions: dict[Place, SessionRow] = {}
        self.ranks: dict[str, int] = {}
        self.deleted: set[Place] = set()
        self.arrivals = arrivals
        self.leaves_traces = False
        self._connection = connection
        self._known = known
        self._known_ranks = known_ranks
        self._now = now
        self._queries = queries()
        self._messages: list[LogRow] = []
        self._activity: list[LogRow] = []
        self._keys: dict[tuple[int, str], KeyRow] = {}
        self._changed: dict[int, SessionRow] = {}
        self._moved: dict[int, SessionRow] = {}
        self._risen = False  # whether one of these changed its rank
        self._last_key: int | None = None

    def do_all(self, writes: Sequence[Write]) -> list[Outcome]:
        """Decide all writes, and write what they add."""
        if len(writes) > 1:
            self._fetch_sessions({(write.tenant, write.session_id) for write in writes})
        outcomes = [self.do(write) for write in writes]
        self.flush()
        return outcomes

    def do(self, write: Write) -> Outcome:
        """Decide one write; what it adds is written with the whole batch."""
        if write.kind is WriteKind.INDEX:
            self.flush()
            self.arrivals.settle_all()
            return Index(self._connection).fill(write.tenant)
        place = (write.tenant, write.session_id)
        session = self._session(place)
        if write.kind is WriteKind.DELETE:
            return self._delete(place, session)
        recorded = None
        if session is not None and write.key is not None:
            recorded = self._key(session.pk, write.key)
        try:
            decision = decide(write, session, recorded, self._now, self)
        except HoldfastError as error:
            return error
        row = decision.session
        self._tidy(row, decision)
        if session is not None and row.floor > session.floor:
            self._purge(row)
        self.sessions[place] = row
        self.deleted.discard(place)
        if session is None or row.pk in self._changed or _rest(row) != _rest(session):
            self._moved.pop(row.pk, None)
            self._changed[row.pk] = row
        elif row != session:
            self._moved[row.pk] = row
            self._risen = self._risen or row.rank != session.rank
        for entry in decision.rows:
            if entry.kind in (EntryKind.MESSAGE, EntryKind.RESET):
                self._messages.append(entry)
            else:
                self._activity.append(entry)
        if decision.key is not None and write.key is not None:
            self._keys[row.pk, write.key] = decision.key
        for name, key in decision.keys.items():
            self._keys[row.pk, name] = key
        return decision.answer

    def create_session(self, tenant: str, session_id: str, now: int) -> SessionRow:
        """Return the row of a new session, with a key that none had before."""
        if self._last_key is None:
            found = self._connection.execute(self._queries["last_key"]).fetchone()
            self._last_key = found[0] if found else 0
        self._last_key += 1
        return new_session(self._last_key, tenant, session_id, now)

    def next_rank(self, session: SessionRow, now: int) -> int:
        """Return the rank of a session that changes."""
        tenant = session.tenant
        last = self.ranks.get(tenant) or self._known_ranks.get(tenant)
        if last is None:
            (last,) = self._connection.execute(self._queries["last_rank"], (tenant,)).fetchone()
        self.ranks[tenant] = rank = rank_after(session, last, now)
        return rank

    def messages_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the message entries above a revision, the batch's own included."""
        self._settle(session)
        return self._rows("messages_after", revision, session.revision)

    def resets_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the reset entries above a revision, the batch's own included."""
        return self._rows("resets_after", revision, session.revision)

    def flush(self) -> None:
        """Write everything that was decided so far."""
        if self._messages:
            self.arrivals.add(self._messages, len(self._changed) + len(self._moved))
        if self._activity:
            run_bulk(self._connection, "insert_activity", self._activity)
        if self._keys:
            rows = [
                (pk, key, k.kind, k.revision, k.kept, k.turn, self._now)
                for (pk, key), k in self._keys.items()
            ]
            run_bulk(self._connection, "insert_keys", rows)
        if self._changed:
            run_bulk(self._connection, "put_sessions", list(self._changed.values()))
        if self._risen or len(self._moved) > 1:
            run_bulk(self._connection, "move_sessions", list(map(_place, self._moved.values())))
        else:
            for row in self._moved.values():
                self._connection.execute(self._queries["move_session"], _place(row)[:-1])
        self._messages, self._activity = [], []
        self._keys, self._changed, self._moved = {}, {}, {}
        self._risen = False

    def _settle(self, session: SessionRow) -> None:
        """Write everything that was decided so far, and put a session's messages in their place."""
        self.flush()
        self.arrivals.settle([session.pk])

    def turn_rows(self, session: SessionRow, turn: str) -> Sequence[LogRow]:
        """Return the turn entries of one turn, the batch's own included."""
        return self._rows("turn_rows", turn, session.start, session.revision)

    def entries_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return all entries above a revision, the batch's own included."""
        extent = (revision, session.revision)
        return self._rows("log", *extent * 3, -1)

    def _rows(self, name: str, *values: object) -> list[LogRow]:
        self.flush()
        return [LogRow._make(row) for row in self._connection.execute(self._queries[name], values)]

    def tickets(self, session: SessionRow) -> Sequence[Ticket]:
        """Return the places in the line for a session, the batch's own included."""
        rows = self._connection.execute(self._queries["tickets"], (session.pk,))
        return [Ticket(*row) for row in rows]

    def _tidy(self, session: SessionRow, decision: Decision) -> None:
        """Keep or drop a place in the line for a session, and drop deltas that are not needed."""
        if decision.ticket is not None:
            one = decision.ticket
            place = (session.pk, one.id, one.number, one.expires)
            self._connection.execute(self._queries["put_ticket"], place)
        if decision.served is not None:
            gone = (session.pk, decision.served, self._now)
            self._connection.execute(self._queries["drop_tickets"], gone)
        if decision.forget is not None:
            extent = (session.start, decision.forget)
            self._connection.execute(self._queries["delete_deltas"], extent)

    def _fetch_sessions(self, places: set[Place]) -> None:
        """Read the rows of sessions that are not known, in few statements."""
        unknown = [place for place in places if place not in self._known]
        for row in read_bulk(self._connection, "sessions", unknown):
            session = SessionRow._make(row)
            self.sessions[session.tenant, session.id] = session

    def _session(self, place: Place) -> SessionRow | None:
        if place in self.deleted:
            return None
        found = self.sessions.get(place) or self._known.get(place)
        if found is None:
            row = self._connection.execute(self._queries["session"], place).fetchone()
            if row is not None:
                found = self.sessions[place] = SessionRow._make(row)
        return found

    def _key(self, pk: int, key: str) -> KeyRow | None:
        if waiting := self._keys.get((pk, key)):
            return waiting
        row = self._connection.execute(self._queries["key"], (pk, key)).fetchone()
        return KeyRow(*row) if row else None

    def _delete(self, place: Place, session: SessionRow | None) -> Deletion:
        if session is None:
            return Deletion(existed=False, erasure="none")
        self._settle(session)
        with self._overwriting():
            Index(self._connection).take_out(session.tenant, session.pk)
            for table in ("arrivals", "messages", "activity"):
                extent = (session.start, session.revision)
                self._connection.execute(self._queries[f"delete_{table}"], extent)
            for table in ("keys", "waiters", "session"):
                self._connection.execute(self._queries[f"delete_{table}"], (session.pk,))
        self._leave_traces()
        self.sessions.pop(place, None)
        self.deleted.add(place)
        return Deletion(existed=True, erasure="pending")

    def _purge(self, session: SessionRow) -> None:
        """Remove what lies below a session's new floor."""
        self.flush()
        # It is older than a reset, which had everything before it put in its place.
        extent = (session.start, session.floor - 1)
        with self._overwriting():
            Index(self._connection).take_out(session.tenant, session.pk, session.floor - 1)
            for table in ("arrivals", "messages"):
                self._connection.execute(self._queries[f"delete_{table}"], extent)
        self._changed[session.pk] = session
        self._leave_traces()

    @contextlib.contextmanager
    def _overwriting(self) -> Iterator[None]:
        """Have what is deleted meanwhile overwritten, also in pages that become free by it."""
        self._connection.execute("PRAGMA secure_delete = ON")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA secure_delete = FAST")

    def _leave_traces(self) -> None:
        """Remember that bytes are to be overwritten, also should this process end before."""
        self._connection.execute(self._queries["put_store_value"], (ERASURE, str(self._now)))
        self.leaves_traces = True
