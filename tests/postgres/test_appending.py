"""What only appends, batch by batch: by how many statements, and which locks."""

from __future__ import annotations

import threading

import psycopg
import pytest

import holdfast
from holdfast.model.commit import Commit
from holdfast.store.backend import Outcome
from holdfast.store.postgres import migrations, writer
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from tests.postgres.test_locks import add, blocked, commit, opened
from tests.stores import schema_of, server_of
from tests.turns.stage import wait_for

COUNT_STATEMENTS = """
CREATE TABLE public.statements (what text);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.statements VALUES (TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON holdfast.sessions
    FOR EACH STATEMENT EXECUTE FUNCTION public.note();
"""


def test_a_batch_updates_its_sessions_at_once(database: str) -> None:
    """However many sessions a batch appends to, old or new, one statement updates their rows."""
    backend = opened(database)
    commit(backend, [add("s1"), add("s3")], [])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(COUNT_STATEMENTS.encode())
        commit(backend, [add(f"s{number}") for number in range(9)], [])
        found = connection.execute("SELECT what FROM public.statements").fetchall()
    backend.close()
    assert found == [("UPDATE",)]


def test_sessions_are_found_by_their_key(database: str) -> None:
    """Whenever a connection makes its plans, analyzed or not, it asks for the key alone."""
    opened(database).close()
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("sessions", "messages", "keys"):
            connection.execute(
                f"ALTER TABLE holdfast.{table} SET (autovacuum_enabled = off)".encode()
            )
        for first in range(0, 1280, 64):
            outcomes: list[Outcome] = []
            backend = opened(database)
            commit(backend, [add(f"s{number}") for number in range(first, first + 64)], outcomes)
            for _ in range(6):
                commit(backend, [add(f"s{first}")], outcomes)
            backend.close()
            assert all(isinstance(outcome, Commit) for outcome in outcomes)

        def scans() -> dict[str, int]:
            return dict(
                connection.execute(
                    "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes "
                    "WHERE schemaname = 'holdfast' AND relname = 'sessions' AND idx_scan > 0"
                )
            )

        wait_for(lambda: scans().get("sessions_pkey", 0) >= 1280, "the counters")
        assert list(scans()) == ["sessions_pkey"]


PARTITION = """
ALTER TABLE holdfast.sessions RENAME TO whole;
CREATE TABLE holdfast.sessions (LIKE holdfast.whole INCLUDING GENERATED INCLUDING DEFAULTS,
                                PRIMARY KEY (shard, tenant, id)) PARTITION BY HASH (shard);
CREATE TABLE holdfast.part_0 PARTITION OF holdfast.sessions
   FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE holdfast.part_1 PARTITION OF holdfast.sessions
   FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""


def test_a_table_in_parts(database: str) -> None:
    """Where the sessions' table is in parts, with rows in the same places, each gets its own."""
    opened(database).close()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(PARTITION.encode())
    backend = opened(database)
    for _ in range(3):
        outcomes: list[Outcome] = []
        commit(backend, [add(f"s{number}") for number in range(16)], outcomes)
        assert all(isinstance(outcome, Commit) for outcome in outcomes)
    backend.close()
    with holdfast.connect(database) as store:
        assert {store.get_session(f"s{number}").message_count for number in range(16)} == {3}
        assert store.verify()


@pytest.mark.parametrize("held", ["b", "c"])
def test_rows_are_locked_in_order(schema: str, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    """A batch locks and makes sessions in the order of their ids, none before its turn."""
    monkeypatch.setattr(writer, "MOST_WAIT_S", 20)  # it is not to try them one by one meanwhile
    backend = opened(schema)
    commit(backend, [add(name) for name in "bcd"], [])
    name = schema_of(schema)
    outcomes: list[Outcome] = []
    batch = [add(session_id) for session_id in "edcba"]
    thread = threading.Thread(target=commit, args=(backend, batch, outcomes))
    with psycopg.connect(server_of(schema)) as holder:
        holder.execute(f"SELECT FROM {name}.sessions WHERE id = '{held}' FOR UPDATE".encode())
        thread.start()
        wait_for(lambda: blocked(schema) == 1, "waiting for the lock")
        with psycopg.connect(server_of(schema)) as connection:
            free = connection.execute(
                f"SELECT id FROM {name}.sessions ORDER BY id FOR UPDATE SKIP LOCKED".encode()
            )
            others = [session_id for (session_id,) in free]
    thread.join()
    backend.close()
    assert others == [session_id for session_id in "bcd" if session_id > held]
    assert len(outcomes) == len(batch)
    assert all(isinstance(outcome, Commit) for outcome in outcomes)


def test_workers_of_two_releases(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the release before calls stays until the second half of a migration."""

    def functions() -> set[str]:
        with psycopg.connect(database) as connection:
            return {
                name
                for (name,) in connection.execute(
                    "SELECT proname FROM pg_proc WHERE pronamespace = 'holdfast'::regnamespace"
                )
            }

    steps = migrations.steps()
    with monkeypatch.context() as older:
        older.setattr(migrations, "steps", lambda: steps[:2])
        holdfast.connect(database).close()
    backend = backend_for(database, durability="full", timeout_s=20, sources=Sources())
    backend.migrate(before_only=True)
    assert {"commit_v1", "commit_v2"} <= functions()
    outcomes: list[Outcome] = []
    commit(backend, [add(name) for name in "abc"], outcomes)
    assert all(isinstance(outcome, Commit) for outcome in outcomes)
    backend.migrate(before_only=False)
    assert "commit_v1" not in functions()
    backend.close()
