"""Reads one session's log from a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from holdfast.errors import NotSupported
from holdfast.model.entry import LogRow
from holdfast.model.session import SessionRow
from holdfast.model.stats import Stats
from holdfast.model.write import KeyRow
from holdfast.rules.codec import PayloadRow
from holdfast.rules.totals import usage_totals
from holdfast.store.backend import LogRead
from holdfast.store.postgres.readers import Snapshot
from holdfast.store.postgres.sharding import shard_of

FIRST_SLICE = 64


class Extract(NamedTuple):
    """The message entries of a history, or of its end, and the revision that they lie above."""

    session: SessionRow
    base: int
    rows: Sequence[PayloadRow]
    complete: bool


def session(snapshot: Snapshot, session_id: str) -> SessionRow | None:
    """Return a session's row."""
    row = snapshot.ask_session("session", session_id).fetchone()
    return SessionRow._make(row) if row else None


def history(
    snapshot: Snapshot, session_id: str, at: int | None, last: int | None
) -> Extract | None:
    """Return the history now or at revision `at`; at least the `last` messages of it."""
    asked = snapshot.ask_session("session", session_id)
    current = None
    if at is None and last is None:  # what is read most often is asked for at once
        current = snapshot.ask_session("current_history", session_id)
    row = asked.fetchone()
    if row is None:
        return None
    found = SessionRow._make(row)
    base, upper = found.base, found.revision
    if at is not None:
        base, upper = _generation(snapshot, found, at)
    if last is not None:
        # Of none at all there is still a revision: that of the last one left out.
        return Extract(found, base, *_last(snapshot, found, (base, upper), max(last, 1)))
    if current is None:
        current = snapshot.ask("history", _shard(found), base, upper)
    return Extract(found, base, current.fetchall(), complete=True)


def log(snapshot: Snapshot, session_id: str, after: int, limit: int | None) -> LogRead | None:
    """Return the entries above revision `after`, about `limit` of them."""
    found = session(snapshot, session_id)
    if found is None:
        return None
    rows = _entries(snapshot, found, max(after, found.start), found.revision, limit)
    ends = max((row.ordinal for row in rows if row.kind == "reset"), default=0)
    if rows and ends > rows[-1].revision:
        rows += _entries(snapshot, found, rows[-1].revision, ends, None)
    return LogRead(found, rows)


def turns(snapshot: Snapshot, session_id: str, turn: str | None) -> LogRead | None:
    """Return a session's turn entries, or those of one turn."""
    found = session(snapshot, session_id)
    if found is None:
        return None
    extent = (found.start, found.revision)
    if turn is None:
        rows = snapshot.ask("all_turn_rows", _shard(found), *extent)
    else:
        rows = snapshot.ask("turn_rows", _shard(found), turn, *extent)
    return LogRead(found, list(map(LogRow._make, rows)))


def keys(snapshot: Snapshot, session_id: str, key: str | None) -> dict[str, KeyRow]:
    """Return what a session's idempotency keys recorded, of all or of one."""
    place = (shard_of(snapshot.tenant, session_id), snapshot.tenant, session_id)
    found = snapshot.ask("session_keys", *place, key, key)
    return {row[0]: KeyRow(*row[1:]) for row in found}


def tenants(snapshot: Snapshot) -> list[str]:
    """Return the tenants that have sessions, or raise if row-level security hides them."""
    found = [(str(tenant), bool(walled)) for tenant, walled in snapshot.ask("tenants")]
    if any(walled for _, walled in found):
        raise NotSupported(
            "row-level security shows this role one tenant at a time, and not which there are",
            hint="name one with --tenant, or use the role that owns the tables",
        )
    return [tenant for tenant, _ in found if tenant]


def waiting(snapshot: Snapshot, session_id: str) -> int:
    """Return how many stand in line for a session's turn."""
    (count,) = one(snapshot.ask_session("count_waiters", session_id))
    return int(count)


def stats(snapshot: Snapshot, session_id: str | None, schema: str) -> Stats:
    """Count a tenant's sessions and entries, or one session's."""
    what = ("count_sessions", "count_messages", "count_activity", "usages")
    values: tuple[object, ...] = (snapshot.tenant,)
    if session_id is not None:
        what = (
            "count_session",
            "count_session_messages",
            "count_session_activity",
            "session_usages",
        )
        values = (snapshot.tenant, shard_of(snapshot.tenant, session_id), session_id)
    counted, messages, activity, used = [snapshot.ask(name, *values) for name in what]
    size = snapshot.ask("size", schema)
    sessions, said, firsts = one(counted)
    entries, resets = one(messages)
    (others,) = one(activity)
    usage = usage_totals(map(LogRow._make, used.fetchall()))
    (size_bytes,) = one(size)
    return Stats(sessions, said, entries + others, resets + firsts, size_bytes, usage)


def one(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    """Return the one row that a statement always has."""
    row = cursor.fetchone()
    assert row is not None, "counting always answers"
    return tuple(row)


def _shard(found: SessionRow) -> int:
    return shard_of(found.tenant, found.id)


def _generation(snapshot: Snapshot, found: SessionRow, at: int) -> tuple[int, int]:
    """Return the base and the last revision of the generation that holds revision `at`."""
    for reset, ends in snapshot.ask("resets_until", _shard(found), found.start, at):
        if ends <= at:
            return reset, at
        at = reset - 1  # inside a rewrite's commit: the generation before it
    return found.start, at


def _last(
    snapshot: Snapshot, found: SessionRow, bounds: tuple[int, int], last: int
) -> tuple[list[PayloadRow], bool]:
    """Return the entries that hold the last messages, and whether they reach the beginning."""
    base, upper = bounds
    entries: list[PayloadRow] = []
    held, first, size = 0, 0, min(last, FIRST_SLICE)
    while True:
        asked = snapshot.ask("history_backwards", _shard(found), base, upper, size)
        rows = asked.fetchall()
        for revision, ordinal, payload, checksum in rows:
            entries.append((revision, payload, checksum))
            held, first = held + payload.count(b"\n") + 1, ordinal
            if held >= last:
                return entries[::-1], first == 0
        if len(rows) < size:
            return entries[::-1], first == 0
        upper, size = rows[-1][0] - 1, 2 * size


def _entries(
    snapshot: Snapshot, found: SessionRow, after: int, until: int, limit: int | None
) -> list[LogRow]:
    shard = _shard(found)
    extent = (after, until, limit)
    rows = snapshot.ask("log", shard, *extent, shard, *extent, limit)
    return [LogRow._make(row) for row in rows]
