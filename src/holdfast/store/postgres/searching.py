"""Finds messages: through the index as far as it has got, and one by one beyond that.

The index knows which messages have all the words; what they say and what fits best is decided by
the rules, on the messages themselves. All of it is one snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.model.search import Found, Said, Search
from holdfast.rules.search import Match, Scan, matched, said_in
from holdfast.store.postgres.arrays import integers
from holdfast.store.postgres.indexing import query_terms
from holdfast.store.postgres.readers import Snapshot

MANY_SESSIONS = 10_000
"""From so many on, counting what the index has of them takes about as long as a small search."""

KEPT_S = 10.0


def lacking(snapshot: Snapshot) -> int:
    """Return about how many entries the index lacks."""
    row = snapshot.ask("lacking", snapshot.tenant).fetchone()
    return int(row[0]) if row else 0


class Totals:
    """Knows how many messages, and words, a tenant's index has: what fits best depends on it.

    They are counted whenever that is soon done. Of a tenant with many sessions they may be some
    seconds old: a few messages more or less change no order that anybody would notice.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._known: dict[str, tuple[float, int, int]] = {}

    def of(self, snapshot: Snapshot, holding: Sequence[int]) -> tuple[int, int]:
        """Return how many messages there are and how many words, no fewer than have a phrase."""
        tenant, now = snapshot.tenant, self._monotonic_s()
        until, messages, length = self._known.get(tenant, (now, 0, 0))
        if until <= now:
            row = snapshot.ask("count_indexed", tenant).fetchone()
            messages, length, sessions = row or (0, 0, 0)
            self._known.pop(tenant, None)
            if sessions >= MANY_SESSIONS:
                self._known[tenant] = now + KEPT_S, messages, length
        least = max(messages, *holding)
        return least, length * least // max(messages, 1)


def search(snapshot: Snapshot, wanted: Search, totals: Totals) -> list[Found]:
    """Return the messages that fit best."""
    scan = Scan(wanted.query)
    matches = _indexed(snapshot, wanted)
    holding = _holding(snapshot, wanted, matches)
    scan.count_in(*totals.of(snapshot, holding), holding)
    scan.matches += matches
    _look_at_the_rest(snapshot, wanted, scan)
    return scan.best(wanted.limit)


def _indexed(snapshot: Snapshot, wanted: Search) -> list[Match]:
    terms = query_terms(wanted.tenant, wanted.query)
    user = (wanted.user_id, wanted.user_id)
    rows = snapshot.ask("search", terms, wanted.tenant, wanted.tenant, *user).fetchall()
    places = {(shard, revision) for shard, _, revision, _, _ in rows}
    asked = snapshot.ask(
        "found_entries",
        integers([shard for shard, _ in places]),
        integers([revision for _, revision in places]),
    )
    said: dict[int, list[Said]] = {
        revision: said_in(payload, checksum) or [] for revision, payload, checksum in asked
    }
    found = [
        Found(session_id, revision, place, at, said[revision][place])
        for _, session_id, revision, place, at in rows
        if place < len(said.get(revision, ()))
    ]
    matches = [matched(each, wanted.query) for each in found]
    return [match for match in matches if all(match.counts)]


def _holding(snapshot: Snapshot, wanted: Search, matches: list[Match]) -> list[int]:
    """Return how many indexed messages have each phrase, or at least all of its words."""
    if len(wanted.query) == 1:
        return [len(matches)]
    asked = [
        snapshot.ask("count_holding", query_terms(wanted.tenant, [phrase]))
        for phrase in wanted.query
    ]
    counted = [cursor.fetchone() for cursor in asked]
    return [int(row[0]) if row else 0 for row in counted]


def _look_at_the_rest(snapshot: Snapshot, wanted: Search, scan: Scan) -> None:
    """Look at every message that the index lacks."""
    user = (wanted.user_id, wanted.user_id)
    for shard, session_id, after, until in snapshot.ask(
        "stale_sessions", wanted.tenant, *user
    ).fetchall():
        entries = snapshot.ask("unindexed_entries", shard, after, until, None)
        for revision, at, payload, checksum in entries.fetchall():
            for index, said in enumerate(said_in(payload, checksum) or ()):
                scan.look(Found(session_id, revision, index, at, said))
