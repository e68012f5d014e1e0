"""Every table can be spread over machines by `shard`, since no write needs rows of two sessions."""

from __future__ import annotations

import itertools
import re

import psycopg
import pytest

import holdfast
from holdfast.model.commit import Commit
from holdfast.store.postgres.migrations import TABLES
from holdfast.store.postgres.queries import queries
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from tests.postgres.recording import recording
from tests.postgres.test_locks import clear
from tests.postgres.writing import write
from tests.stores import schema_of

ACROSS = {
    "tenants",
    "open_turns",
    "list_sessions",
    "list_user_sessions",
    "list_agent_sessions",
    "sessions_after",
    "count_sessions",
    "count_messages",
    "count_activity",
    "usages",
    "lacking",
    "next_stale",
    "stale_sessions",
    "search",
    "count_indexed",
    "count_holding",
    "last_of_slice",
    "forget_invented",
}
"""Statements about many sessions. None is part of a write: they read, or tidy up."""

FUNCTIONS = {"commit", "append"}
NO_TABLE = FUNCTIONS | {
    "set_tenant",
    "now",
    "new_key",
    "loose_commit",
    "only_indexes",
    "no_sorts",
    "size",
}

WATCH = """
CREATE TABLE seen (number xid8, name text, shard bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen
    SELECT pg_current_xact_id(), TG_TABLE_NAME,
           CASE TG_OP WHEN 'DELETE' THEN OLD.shard ELSE NEW.shard END;
    RETURN NULL;
END $$;
"""


@pytest.fixture
def url(database: str) -> str:
    """A database with a store."""
    holdfast.connect(database).close()
    return database


def test_every_key_begins_with_the_shard(url: str) -> None:
    """Each table but `store` has shard and tenant, and its unique keys begin with shard."""
    with psycopg.connect(url) as connection:
        keys = connection.execute(
            "SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
            "  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] "
            " WHERE i.indisunique AND c.relnamespace = 'holdfast'::regnamespace"
        ).fetchall()
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'holdfast' AND is_nullable = 'NO'"
        ).fetchall()
        references = connection.execute(
            "SELECT count(*) FROM pg_constraint WHERE contype IN ('f', 'x') "
            "AND connamespace = 'holdfast'::regnamespace"
        ).fetchone()
    assert dict(keys) == {"store": "name", **dict.fromkeys(TABLES, "shard")}
    assert {name for name, _ in keys} == {*TABLES, "store"}
    for table in TABLES:
        assert {(table, "shard"), (table, "tenant")} <= set(columns)
    assert references == (0,)


def test_a_write_changes_rows_of_one_shard(url: str) -> None:
    """Whatever a transaction writes, the rows that it makes, changes and removes have one shard."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(WATCH.encode())
        for table in TABLES:
            connection.execute(
                f"CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON holdfast.{table} "
                f"FOR EACH ROW EXECUTE FUNCTION see()".encode()
            )
        with holdfast.connect(url) as store:
            write(store, map(str, itertools.count()), url)
        tables = connection.execute("SELECT DISTINCT name FROM seen").fetchall()
        assert {name for (name,) in tables} == set(TABLES)
        wide = connection.execute(
            "SELECT number, array_agg(DISTINCT name) FROM seen "
            "GROUP BY number HAVING count(DISTINCT shard) > 1"
        )
        assert wide.fetchall() == []


def test_a_write_names_its_shard(url: str) -> None:
    """Each statement of a write finds its rows by their shard; those that do not only read."""
    statements = queries("holdfast")
    named = {name for name, text in statements.items() if re.search(r"\bshard\b", text)}
    assert set(statements) - ACROSS - NO_TABLE <= named
    for name in set(statements) - ACROSS - NO_TABLE:
        text = statements[name]
        by_value = re.search(r"\bshard = %s", text)
        by_rows = re.search(r"unnest\(%s::bigint\[\]", text) or re.search(r"VALUES \(%s", text)
        assert by_value or by_rows or text.startswith("INSERT"), name


def test_what_spans_sessions_writes_nothing(url: str) -> None:
    """The statements that span sessions are no part of a write's transaction, and change no log."""
    changing = {
        name
        for name in ACROSS
        if not queries("holdfast")[name].startswith(("SELECT", "(", "WITH RECURSIVE"))
    }
    assert changing == {"forget_invented"}
    with recording("holdfast") as asked, holdfast.connect(url) as store:
        store.add_user_message("a", "hello")
        with store.turn("a", "hello") as turn:
            turn.write("an answer")
        store.rewind_session("a", -1)
        store.delete_session("a")
    assert {each.name for each in asked} & ACROSS <= {"last_of_slice", "forget_invented"}


SEVERAL = {"lock_sessions", "recorded_keys", "waiting"}
"""Statements that name the shards of several sessions, for a batch that the rules decide."""


def test_a_write_alone_names_one_shard(url: str) -> None:
    """A write that is decided alone locks and asks in statements that name one shard."""
    with recording("holdfast") as asked, holdfast.connect(url) as store:
        store.set_chat_history("a", [{"role": "user", "content": "hello"}], key="k")
        with store.turn("a", "hello") as turn:
            turn.write("an answer")
        store.rewind_session("a", -1)
        store.delete_session("a")
    names = {each.name for each in asked}
    assert "lock_session" in names
    assert not names & SEVERAL


def test_an_engine_that_locks_one_shard_at_a_time(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where several sessions cannot be locked together, a batch is decided write by write."""
    backend = backend_for(schema, durability="full", timeout_s=20, sources=Sources())
    backend.open()
    refused = "SELECT '0A000: not on several shards'::integer, %s, %s, %s"
    monkeypatch.setitem(queries(schema_of(schema)), "lock_sessions", refused)
    assert backend.admit(wait=True)
    outcomes = backend.commit([clear(name) for name in ("a", "b", "c")])
    backend.leave()
    backend.close()
    assert all(isinstance(outcome, Commit) for outcome in outcomes), outcomes
