"""Many sessions in a schema, quickly: rows as a store would have written them."""

from __future__ import annotations

import zlib

import psycopg

from holdfast.store.postgres.queries import in_schema
from holdfast.store.postgres.sharding import shard_of

TENANT = "default"
UNINDEXED = 1_000
"""Of so many sessions, one is not in the search index yet."""

OLD = 3_000
"""So many sessions have an invented key that may be forgotten, and somebody who waited."""

_FILL = """
INSERT INTO holdfast.sessions (
       shard, tenant, id, pk, revision, history_revision, base, floor, message_count,
       created, updated, rank, user_id, agent_name, indexed, indexed_messages, indexed_words, stale)
SELECT shard, %(tenant)s, 's' || n, n, (n << 32) + 2, (n << 32) + 2, n << 32, n << 32, 1,
       n, n, n, 'user' || n %% 1000, 'agent' || n %% 10,
       CASE WHEN n %% %(unindexed)s = 0 THEN 0 ELSE (n << 32) + 2 END,
       CASE WHEN n %% %(unindexed)s = 0 THEN 0 ELSE 1 END, 2, n %% %(unindexed)s = 0
  FROM unnest(%(shards)s::bigint[]) WITH ORDINALITY AS each (shard, n);

INSERT INTO holdfast.messages (
       shard, tenant, revision, kind, ordinal, turn, attempt, at, payload, crc)
SELECT shard, tenant, pk << 32 | 2, 'message', 0, NULL, 0, pk, payload, crc
  FROM holdfast.sessions JOIN unnest(%(payloads)s::text[], %(checksums)s::bigint[])
                              WITH ORDINALITY AS each (payload, crc, n) ON n = pk
 WHERE tenant = %(tenant)s;

INSERT INTO holdfast.activity (shard, tenant, revision, kind, turn, attempt, at, payload, crc)
SELECT shard, tenant, pk << 32 | 1, 'meta', NULL, 0, pk, payload, crc
  FROM holdfast.sessions JOIN unnest(%(details)s::text[], %(detail_checksums)s::bigint[])
                              WITH ORDINALITY AS each (payload, crc, n) ON n = pk
 WHERE tenant = %(tenant)s;

INSERT INTO holdfast.keys (
       shard, tenant, session, key, invented, kind, revision, kept, turn, write, at)
SELECT shard, tenant, pk, 'w_' || pk, true, 'add', pk << 32 | 2, 0, NULL, 'w_' || pk,
       CASE WHEN pk <= %(old)s THEN pk ELSE extract(epoch FROM now())::bigint * 1000 END
  FROM holdfast.sessions WHERE tenant = %(tenant)s;

INSERT INTO holdfast.searched (shard, tenant, revision, place, at, words, terms)
SELECT shard, tenant, pk << 32 | 2, 0, pk, 2,
       array_to_tsvector(ARRAY['=' || encode(tenant::bytea, 'hex'), 'hello', 'word' || pk %% 5000])
  FROM holdfast.sessions WHERE tenant = %(tenant)s AND NOT stale;

INSERT INTO holdfast.waiters (shard, tenant, session, id, number, expires)
SELECT shard, tenant, pk, 'w', 1, 0 FROM holdfast.sessions
 WHERE tenant = %(tenant)s AND pk <= %(old)s;

SELECT setval('holdfast.session_keys', %(count)s), setval('holdfast.ranks', %(count)s);
"""


TABLES = ("sessions", "messages", "activity", "keys", "searched", "waiters")


def put(connection: psycopg.Connection[tuple[object, ...]], schema: str, count: int) -> None:
    """Make so many sessions `s1`, `s2`, ... of one message each in an empty schema.

    Each has a user of 1,000, an agent of 10, and an invented key; all verify. The tables are never
    analyzed, as right after an import.
    """
    for table in TABLES:
        statement = f"ALTER TABLE {schema}.{table} SET (autovacuum_enabled = off)"
        connection.execute(statement.encode())
    numbers = range(1, count + 1)
    payloads = [
        f'{{"role":"user","content":"hello word{n % 5000}","id":"msg_{n}",'
        f'"created_at":"1970-01-01T00:00:00.000Z"}}'
        for n in numbers
    ]
    details = [f'{{"user_id":"user{n % 1000}","agent_name":"agent{n % 10}"}}' for n in numbers]
    values = {
        "tenant": TENANT,
        "count": count,
        "old": OLD,
        "unindexed": UNINDEXED,
        "shards": [shard_of(TENANT, f"s{n}") for n in numbers],
        "payloads": payloads,
        "checksums": _checksums(payloads),
        "details": details,
        "detail_checksums": _checksums(details),
    }
    for statement in in_schema(_FILL, schema).split(";\n")[:-1]:
        connection.execute(statement.encode(), values)
    connection.execute(f"SELECT gin_clean_pending_list('{schema}.searched_terms')".encode())


def analyze(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    """Let PostgreSQL have statistics of all tables."""
    for table in TABLES:
        connection.execute(f"VACUUM ANALYZE {schema}.{table}".encode())


def _checksums(payloads: list[str]) -> list[int]:
    return [zlib.crc32(payload.encode()) for payload in payloads]
