"""`holdfast store migrate --print-sql`: what it prints is all that a store needs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import TypeAlias

import psycopg
import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli.main import cli
from holdfast.store.postgres import migrations
from holdfast.store.schemas import Step
from holdfast.testing.postgres import Server, programs
from tests.postgres import starter
from tests.postgres.roles import run

NOW, NEXT = str(migrations.newest()), str(migrations.newest() + 1)
Command: TypeAlias = Callable[..., Result]


@pytest.fixture
def command() -> Command:
    """Runs `holdfast store migrate --print-sql`."""

    def command(*line: str) -> Result:
        result = CliRunner().invoke(cli, ["store", "migrate", "--print-sql", *line])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return command


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process knows another version of the schema."""
    known = migrations.steps()
    before = starter.BEFORE.replace("0.3", "0")
    steps = (*known, Step(known[-1].version + 1, before, starter.AFTER))
    monkeypatch.setattr(migrations, "steps", lambda: steps)


def test_psql_makes_a_store_of_it(database: str, command: Command) -> None:
    """What is printed for an empty database makes a store there that opens without migrating."""
    printed = command("--store", database)
    assert printed.exit_code == 0
    assert printed.stderr == ""
    psql = programs.command("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", database)
    done = subprocess.run(
        psql,
        input=printed.stdout,
        text=True,
        env=programs.environment(),
        check=True,
        capture_output=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    with holdfast.connect(database, migrate=False) as store:
        store.add_user_message("a", "hello", key="k")
        assert store.search("hello")
        assert store.verify()
    again = command("--store", database)
    assert again.stdout == f"-- The schema holdfast is up to date: version {NOW}.\n"


def test_it_is_what_connecting_makes(database: str, command: Command) -> None:
    """A schema made by hand is the same as one that a program made, but for its identity."""
    run(database, command("--store", f"{database}?schema=by_hand_x").stdout)
    holdfast.connect(f"{database}?schema=by_program_x").close()
    found = [_described(database, schema) for schema in ("by_hand_x", "by_program_x")]
    assert found[0] == found[1]


def test_no_server_is_needed(database: str, command: Command) -> None:
    """Where no server answers, the script for an empty database is printed, and that is said."""
    printed = command("--store", "postgresql://nobody@127.0.0.1:1/nothing?schema=chats")
    assert printed.exit_code == 0
    assert "for a database without the schema 'chats'" in printed.stderr
    run(database, printed.stdout)
    with holdfast.connect(f"{database}?schema=chats", migrate=False) as store:
        store.add_user_message("a", "hello")


def test_it_changes_nothing_a_second_time(database: str, command: Command) -> None:
    """A script that comes late is refused as a whole, says why, and leaves the data alone."""
    script = command("--store", database).stdout
    with holdfast.connect(database) as store:
        store.add_user_message("a", "hello")
        with pytest.raises(psycopg.errors.RaiseException, match="is not what this script"):
            run(database, script)
        assert len(store.get_chat_history("a")) == 1


def test_a_role_that_may_make_nothing(server: Server, database: str, command: Command) -> None:
    """Who may neither make nor read the schema can print it, with grants for the programs."""
    server.create_role("printer")
    url = database.replace("//postgres@", "//printer@")
    try:
        printed = command("--store", url, "--role", "printer")
        assert (printed.exit_code, printed.stderr) == (0, "")
        run(database, printed.stdout)
        with holdfast.connect(url, migrate=False) as store:
            store.add_user_message("a", "hello")
    finally:
        run(database, "DROP OWNED BY printer", "DROP ROLE printer")


@pytest.mark.usefixtures("newer")
def test_a_migration_by_hand(
    database: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older store is brought up to date by what is printed, in one step or in its two halves."""
    with monkeypatch.context() as older:
        older.setattr(migrations, "steps", _known)
        for schema in ("whole", "halves"):
            holdfast.connect(f"{database}?schema={schema}").close()
    whole, halves = (f"{database}?schema={schema}" for schema in ("whole", "halves"))
    run(database, command("--store", whole).stdout)
    assert _versions(database, "whole") == {"schema_version": NEXT}
    run(database, command("--store", halves, "--before").stdout)
    assert _versions(database, "halves") == {"schema_version": NOW, "schema_prepared": NEXT}
    holdfast.connect(halves, migrate=False).close()
    late = command("--store", halves).stdout
    run(database, late)
    assert _versions(database, "halves")["schema_version"] == NEXT
    with pytest.raises(psycopg.errors.RaiseException, match="is not what this script"):
        run(database, late)


def test_as_json(database: str, command: Command) -> None:
    """`--json` gives the same script as a value."""
    document = json.loads(command("--store", database, "--json").stdout)
    assert document["sql"].endswith("COMMIT;\n")
    assert document["store"] == database


def test_only_postgresql_is_migrated_so(command: Command) -> None:
    """Other stores, and `--role` alone, are refused as wrong use."""
    assert command("--store", "memory://").exit_code == 2
    alone = CliRunner().invoke(cli, ["store", "migrate", "--role", "x", "--store", "memory://"])
    assert alone.exit_code == 2


_known = migrations.steps


def _versions(url: str, schema: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        statement = f"SELECT name, value FROM {schema}.store WHERE name LIKE 'schema%'"
        return dict(connection.execute(statement.encode()).fetchall())


def _described(url: str, schema: str) -> list[tuple[str, ...]]:
    """All columns, indexes, policies and functions of a schema, without its name and numbers."""
    catalogues = (
        "columns WHERE table_schema",
        "pg_indexes WHERE schemaname",
        "pg_policies WHERE schemaname",
        "pg_sequences WHERE schemaname",
        "routines WHERE routine_schema",
        "routine_privileges WHERE routine_schema",
    )
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = information_schema, pg_catalog")
        rows = [
            tuple(re.sub(r"_\d+\b", "", str(value).replace(schema, "")) for value in row)
            for catalogue in catalogues
            for row in connection.execute(f"SELECT * FROM {catalogue} = %s".encode(), [schema])
        ]
    return sorted(rows)
