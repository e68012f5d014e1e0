"""Several workers that start at once: all come up, and one makes or migrates the schema."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest

import holdfast
from holdfast.errors import ConfigError, NotSupported, Unavailable
from holdfast.store.postgres import migrations
from holdfast.testing.postgres import Server
from tests.forking import Forked
from tests.postgres.starter import main

WORKERS = 8


def start_at_once(url: str, role: str) -> None:
    """Start all workers, give them one word, and see each of them end well."""
    with ExitStack() as stack:
        workers = [Forked(main, f"{role}{number}", [role, url]) for number in range(WORKERS)]
        for worker in workers:
            stack.callback(worker.close)
        for worker in workers:
            assert worker.hear() == "ready"
        for worker in workers:
            worker.tell("go")
        assert [worker.finish() for worker in workers] == [["done"]] * WORKERS


def test_on_an_empty_database(database: str) -> None:
    """Of eight workers on an empty database one makes the schema, and all of them write."""
    start_at_once(database, "present")
    with holdfast.connect(database, migrate=False) as store:
        assert len(store.get_chat_history("all")) == WORKERS
        assert store.verify()


def test_on_an_older_schema(database: str) -> None:
    """Of eight workers with newer code one migrates the schema, and all of them write."""
    with holdfast.connect(database) as store:
        store.add_user_message("all", "first")
    start_at_once(database, "new")
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT name, value FROM holdfast.store").fetchall()
        assert (migrations.VERSION, str(migrations.newest() + 1)) in found
        tickets = connection.execute("SELECT to_regclass('holdfast.tickets') IS NOT NULL")
        assert tickets.fetchone() == (True,)
    with pytest.raises(NotSupported) as caught:
        holdfast.connect(database)
    assert caught.value.code == "newer_schema"


def test_whoever_is_first_is_waited_for(database: str) -> None:
    """Who finds the schema being made waits as long as a call may take, and then says why."""
    with psycopg.connect(database) as holder:
        holder.execute(f"SELECT {migrations.lock('holdfast')}".encode())
        with pytest.raises(Unavailable) as caught:
            holdfast.connect(database, timeout=0.5)
        assert caught.value.code == "locked"
        assert caught.value.retryable
        holder.rollback()
    holdfast.connect(database).close()


def test_nothing_is_made_without_migrating(database: str) -> None:
    """With `migrate=False` an empty database is refused and stays empty; the hint names the way."""
    with pytest.raises(ConfigError) as caught:
        holdfast.connect(database, migrate=False)
    assert caught.value.code == "no_store"
    assert "holdfast store migrate" in caught.value.hint
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regnamespace('holdfast')").fetchone() == (None,)


def test_a_schema_of_somebody_else(database: str) -> None:
    """A schema in which another program has tables is left as it is."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA holdfast")
        connection.execute("CREATE TABLE holdfast.theirs (n integer)")
        for migrate in (True, False):
            with pytest.raises(ConfigError) as caught:
                holdfast.connect(database, migrate=migrate)
            assert caught.value.code == "not_ours"
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'holdfast'")
        assert tables.fetchall() == [("theirs",)]


def test_an_empty_schema_is_taken(server: Server, database: str) -> None:
    """A schema that was made for it is filled by a role that may not make schemas itself."""
    server.create_role("filler")
    name = database.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA holdfast AUTHORIZATION filler")
    with holdfast.connect(server.url_for(name, user="filler")) as store:
        store.add_user_message("a", "hello")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP OWNED BY filler CASCADE")
        connection.execute("DROP ROLE filler")
