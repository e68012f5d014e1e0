"""Writes that have to be decided: by the rules, in a transaction that holds their sessions' rows.

Locking the rows and reading what is known about them is one round trip, writing it all and
committing another. The batch's own rows are held back until the end; what asks for rows of the log
writes them first. Between two round trips the server has to be told that nothing more is under way
(`Pipeline.sync`): only then does it notice a client that stands still in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from msgspec.structs import replace

from holdfast.errors import HoldfastError
from holdfast.model.commit import Deletion, Purge
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import SessionRow, new_session
from holdfast.model.turn import Ticket
from holdfast.model.write import KeyRow, WriteKind
from holdfast.rules.committing import decide
from holdfast.rules.decision import Decision
from holdfast.store.backend import Outcome
from holdfast.store.postgres.arrays import Integers, booleans, integers, texts
from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.plain import Stamped, answer
from holdfast.store.postgres.queries import queries
from holdfast.store.postgres.sharding import shard_of

_KeyName = tuple[str, str, bool]  # the session's id, the key, whether it was invented


class Raced(Exception):
    """Another process made a session meanwhile that this transaction was to make."""


class Transaction:
    """Decides writes of one tenant, and commits what they come to.

    Raises `LockNotAvailable` where a lock is not to be had within `wait_ms`. `earlier` are answers
    of an attempt whose COMMIT nobody answered, by the ids of their writes; `deleted` takes down
    which session each deletion is of, by its key.
    """

    def __init__(
        self,
        connection: Connection,
        schema: str,
        tenant: str,
        now: int | None,
        *,
        wait_ms: str,
        earlier: Mapping[str, Outcome],
        deleted: dict[str, int],
    ) -> None:
        self._connection = connection
        self._queries = queries(schema)
        self._tenant = tenant
        self._scripted = now
        self._wait_ms = wait_ms
        self._earlier = earlier
        self._deleted = deleted
        self._stands = False  # whether that attempt was committed, and with it what it refused
        self._now = 0
        self._sessions: dict[str, SessionRow | None] = {}
        self._keys: dict[_KeyName, tuple[KeyRow, str]] = {}
        self._messages: list[LogRow] = []
        self._activity: list[LogRow] = []
        self._new_keys: dict[_KeyName, tuple[KeyRow, str]] = {}
        self._changed: dict[str, SessionRow] = {}
        self._created: set[str] = set()
        self._shards: dict[int, int] = {}
        self._tickets: dict[int, dict[str, Ticket]] = {}
        self._pending: list[tuple[str, tuple[object, ...]]] = []
        self._open = ExitStack()
        self._pipeline = self._open.enter_context(connection.pipeline())

    def decide(self, batch: Sequence[Stamped]) -> list[tuple[Stamped, Outcome]]:
        """Lock the sessions of a batch, and decide its writes; nothing is committed yet.

        If only some of the sessions are there, the writes of the others are left out: whoever locks
        all rows that are there, and then makes one that others count as earlier, waits for those
        who wait for him.
        """
        self._begin(batch)
        there = {name for name, session in self._sessions.items() if session is not None}
        return [
            (stamped, self._decide(stamped))
            for stamped in batch
            if not there or stamped.write.session_id in there or self._refused_before(stamped)
        ]

    def commit(self) -> None:
        """Write what was decided, and commit it."""
        self._flush()
        self._connection.execute("COMMIT")
        self._open.close()

    def roll_back(self) -> None:
        """Undo everything."""
        with suppress(psycopg.Error):  # it says again why
            self._open.close()
        if not self._connection.closed:
            self._connection.execute("ROLLBACK")

    def _begin(self, batch: Sequence[Stamped]) -> None:
        ids = sorted({stamped.write.session_id for stamped in batch})
        names = {_key_name(stamped) for stamped in batch}
        self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        self._execute("set_tenant", self._tenant, self._wait_ms)
        ask = self._ask_of_one if len(ids) == 1 else self._ask_of_several
        locked, now, recorded, waiting = ask(ids, names)
        self._pipeline.sync()
        rows = [SessionRow._make(row) for row in locked.fetchall()]
        (self._now,) = now.fetchone() if self._scripted is None else (self._scripted,)
        found, standing = recorded.fetchall(), waiting.fetchall()
        self._sessions = dict.fromkeys(ids)
        for row in rows:
            self._know(row)
        for session_id, key, invented, kind, revision, kept, turn, write in found:
            self._keys[session_id, key, invented] = KeyRow(kind, revision, kept, turn), write
        self._stands = any(
            stamped.id in self._earlier
            and self._keys.get(_key_name(stamped), (None, ""))[1] == stamped.id
            for stamped in batch
        )
        for session, *ticket in standing:
            self._tickets.setdefault(session, {})[ticket[0]] = Ticket(*ticket)

    def _ask_of_one(self, ids: Sequence[str], names: set[_KeyName]) -> tuple[Any, Any, Any, Any]:
        """Lock a session, and ask what is known of it, in statements that name its shard."""
        place = (shard_of(self._tenant, ids[0]), self._tenant, ids[0])
        return (
            self._execute("lock_session", *place),
            self._execute("now"),
            self._execute("recorded_session_keys", *place, texts([name[1] for name in names])),
            self._execute("waiting_for_session", *place),
        )

    def _ask_of_several(
        self, ids: Sequence[str], names: set[_KeyName]
    ) -> tuple[Any, Any, Any, Any]:
        return (
            self._execute("lock_sessions", self._tenant, self._shards_of(ids), texts(ids)),
            self._execute("now"),
            self._execute(
                "recorded_keys",
                self._shards_of(name[0] for name in names),
                texts([name[0] for name in names]),
                texts([name[1] for name in names]),
                booleans([name[2] for name in names]),
                self._tenant,
            ),
            self._execute("waiting", self._tenant, self._shards_of(ids), texts(ids)),
        )

    def _know(self, row: SessionRow) -> None:
        self._sessions[row.id] = row
        self._shards[row.pk] = shard_of(row.tenant, row.id)

    def _shards_of(self, ids: Iterable[str]) -> Integers:
        return integers([shard_of(self._tenant, session_id) for session_id in ids])

    # One write

    def _decide(self, stamped: Stamped) -> Outcome:
        if (refusal := self._refused_before(stamped)) is not None:
            return refusal
        write = stamped.write
        session = self._sessions[write.session_id]
        if write.kind is WriteKind.DELETE:
            return self._delete(stamped, session)
        name = _key_name(stamped)
        recorded, its_write = self._keys.get(name, (None, ""))
        if its_write == stamped.id and recorded is not None and session is not None:
            return self._answered_before(stamped, session, recorded)
        try:
            decision = decide(
                write, session, recorded if write.key is not None else None, self._now, self
            )
        except HoldfastError as error:
            return error
        self._take(stamped, session, decision)
        if isinstance(decision.answer, Purge) and decision.answer.erasure != "none":
            return replace(decision.answer, erasure="pending")
        return decision.answer

    def _refused_before(self, stamped: Stamped) -> HoldfastError | None:
        """Return the error of a write that an attempt refused which was committed after all.

        Beside writes that are there it was refused for good: it cannot happen after them.
        """
        before = self._earlier.get(stamped.id) if self._stands else None
        return before if isinstance(before, HoldfastError) else None

    def _answered_before(self, stamped: Stamped, session: SessionRow, recorded: KeyRow) -> Outcome:
        """Return what a write said that was sent before, and whose answer was lost."""
        earlier = self._earlier.get(stamped.id)
        if earlier is not None:
            return earlier
        asked = session.interrupt_fence == session.fence != 0
        return answer(stamped.write, recorded.revision, recorded.revision, interrupted=asked)

    def _take(self, stamped: Stamped, session: SessionRow | None, decision: Decision) -> None:
        """Hold back what a decision writes."""
        row = decision.session
        if session is None:
            self._created.add(row.id)
        self._know(row)
        self._tidy(row, decision)
        if session is not None and row.floor > session.floor:
            self._purge(row)
        if row != session:
            self._changed[row.id] = row
        for entry in decision.rows:
            if entry.kind in (EntryKind.MESSAGE, EntryKind.RESET):
                self._messages.append(entry)
            else:
                self._activity.append(entry)
        key = decision.key
        if key is None and (decision.rows or row != session) and stamped.write.key is None:
            key = KeyRow(stamped.write.kind.value, row.revision, 0)
        if key is not None:
            name = _key_name(stamped)
            self._keys[name] = self._new_keys[name] = key, stamped.id
        for brought, its_row in decision.keys.items():
            name = (row.id, brought, False)
            self._keys[name] = self._new_keys[name] = its_row, stamped.id

    def _tidy(self, session: SessionRow, decision: Decision) -> None:
        """Keep or drop a place in the line for a session, and drop deltas that are not needed."""
        shard = self._shards[session.pk]
        line = self._tickets.setdefault(session.pk, {})
        if decision.ticket is not None:
            one = line[decision.ticket.id] = decision.ticket
            place = (shard, self._tenant, session.pk, one.id, one.number, one.expires)
            self._pending.append(("put_ticket", place))
        if decision.served is not None:
            kept = {
                ticket.id: ticket
                for ticket in line.values()
                if ticket.id != decision.served and ticket.expires > self._now
            }
            if len(kept) < len(line):
                self._tickets[session.pk] = kept
                gone = (shard, session.pk, decision.served, self._now)
                self._pending.append(("drop_tickets", gone))
        if decision.forget is not None:
            extent = (shard, session.start, decision.forget)
            self._pending.append(("delete_deltas", extent))

    def _delete(self, stamped: Stamped, session: SessionRow | None) -> Outcome:
        before = self._earlier.get(stamped.id)
        if before is not None and (session is None or session.pk != self._deleted.get(stamped.id)):
            # An attempt that nobody answered found another session, or none: what is there now
            # was made since, by somebody who was told that it is there.
            return before
        if session is None:
            return Deletion(existed=False, erasure="none")
        self._deleted[stamped.id] = session.pk
        self._flush()
        shard = self._shards[session.pk]
        for table in ("messages", "activity", "searched"):
            self._execute(f"delete_{table}", shard, session.start, session.revision)
        for table in ("keys", "waiters"):
            self._execute(f"delete_{table}", shard, session.pk)
        self._execute("delete_session", shard, self._tenant, session.pk)
        self._sessions[session.id] = None
        self._created.discard(session.id)
        self._keys = {name: key for name, key in self._keys.items() if name[0] != session.id}
        return Deletion(existed=True, erasure="pending")

    def _purge(self, session: SessionRow) -> None:
        """Remove what lies below a session's new floor."""
        self._flush()
        shard = self._shards[session.pk]
        for table in ("messages", "searched"):
            self._execute(f"delete_{table}", shard, session.start, session.floor - 1)

    # What the rules ask

    def create_session(self, tenant: str, session_id: str, now: int) -> SessionRow:
        """Return the row of a new session, with a key that none had before."""
        ((key,),) = self._ask("new_key")
        row = new_session(key, tenant, session_id, now)
        self._shards[key] = shard_of(tenant, session_id)
        return row

    def next_rank(self, session: SessionRow, now: int) -> int:  # noqa: ARG002 - the sequence's
        """Return 0: the statement that writes the row takes the next one."""
        return 0

    def messages_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the message entries above a revision, the batch's own included."""
        return self._rows("messages_after", session, revision, session.revision)

    def resets_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the reset entries above a revision, the batch's own included."""
        return self._rows("resets_after", session, revision, session.revision)

    def entries_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return all entries above a revision, the batch's own included."""
        extent = (revision, session.revision, None)
        return self._rows("log", session, *extent, self._shards[session.pk], *extent, None)

    def turn_rows(self, session: SessionRow, turn: str) -> Sequence[LogRow]:
        """Return the turn entries of one turn, the batch's own included."""
        return self._rows("turn_rows", session, turn, session.start, session.revision)

    def tickets(self, session: SessionRow) -> Sequence[Ticket]:
        """Return the places in the line for a session, the batch's own included."""
        return list(self._tickets.get(session.pk, {}).values())

    def _rows(self, name: str, session: SessionRow, *values: object) -> list[LogRow]:
        self._flush()
        return [LogRow._make(row) for row in self._ask(name, self._shards[session.pk], *values)]

    # Writing

    def _flush(self) -> None:
        """Write everything that was decided so far."""
        self._insert("insert_messages", self._messages)
        self._insert("insert_activity", self._activity)
        if self._new_keys:
            self._put_keys()
        if self._changed:
            self._put_sessions(list(self._changed.values()))
        for name, values in self._pending:
            self._execute(name, *values)
        self._messages, self._activity, self._pending = [], [], []
        self._new_keys, self._changed = {}, {}

    def _insert(self, name: str, rows: Sequence[LogRow]) -> None:
        if not rows:
            return
        self._execute(
            name,
            self._tenant,
            integers([self._shards[row.revision >> 32] for row in rows]),
            integers([row.revision for row in rows]),
            texts([row.kind for row in rows]),
            integers([row.ordinal for row in rows]),
            texts([row.turn for row in rows]),
            integers([row.attempt for row in rows]),
            integers([row.at for row in rows]),
            texts([row.payload for row in rows]),
            integers([row.checksum for row in rows]),
        )

    def _put_keys(self) -> None:
        rows = [(self._row(name[0]), name, *kept) for name, kept in self._new_keys.items()]
        self._execute(
            "put_keys",
            self._tenant,
            self._now,
            integers([self._shards[session.pk] for session, *_ in rows]),
            integers([session.pk for session, *_ in rows]),
            texts([name[1] for _, name, _, _ in rows]),
            booleans([name[2] for _, name, _, _ in rows]),
            texts([key.kind for _, _, key, _ in rows]),
            integers([key.revision for _, _, key, _ in rows]),
            integers([key.kept for _, _, key, _ in rows]),
            texts([key.turn for _, _, key, _ in rows]),
            texts([write for _, _, _, write in rows]),
        )

    def _row(self, session_id: str) -> SessionRow:
        row = self._sessions[session_id]
        assert row is not None, "a key is kept for a session that is there"
        return row

    def _put_sessions(self, rows: Sequence[SessionRow]) -> None:
        columns: list[object] = [integers([self._shards[row.pk] for row in rows])]
        for column, first in zip(zip(*rows, strict=True), _TEXT_COLUMNS, strict=True):
            columns.append(texts(column) if first else integers(column))
        if not self._created:
            self._execute("put_sessions", *columns)
        elif len(self._ask("put_sessions", *columns)) != len(rows):
            raise Raced
        self._created -= {row.id for row in rows}

    def _ask(self, name: str, *values: object) -> list[Any]:
        found = self._execute(name, *values)
        self._pipeline.sync()
        return list(found.fetchall())

    def _execute(self, name: str, *values: object) -> Any:
        return self._connection.execute(self._queries[name], values, binary=True)


_TEXTS = frozenset(
    (
        "tenant",
        "id",
        "title",
        "user_id",
        "agent_name",
        "meta",
        "labels",
        "lease_owner",
        "open_turn",
        "turn_status",
    )
)
_TEXT_COLUMNS = tuple(field in _TEXTS for field in SessionRow._fields)


def _key_name(stamped: Stamped) -> _KeyName:
    key = stamped.write.key
    return stamped.write.session_id, stamped.id if key is None else key, key is None
