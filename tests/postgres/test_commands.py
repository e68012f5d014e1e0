"""The command line on PostgreSQL, as whoever looks after a store uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli.main import cli
from holdfast.store.postgres import migrations

NEWEST = migrations.newest()
Command: TypeAlias = Callable[..., Result]


@pytest.fixture
def url(database: str) -> str:
    """A store with two sessions, one of them with an earlier history."""
    with holdfast.connect(database) as store:
        store.create_session("trip", title="To Lisbon", user_id="alice", agent_name="guide")
        store.add_user_message("trip", "Will it rain?")
        store.set_chat_history("trip", [{"role": "user", "content": "Will it snow?"}])
        with store.turn("other", "hello", key="k") as turn:
            turn.write("Hello!")
    return database


@pytest.fixture
def command(url: str) -> Command:
    """Runs a command on the store; it must say nothing of files."""

    def command(line: str, *, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [*line.split(), "--store", url])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        assert " file" not in result.output
        assert "reader still holds" not in result.output
        return result

    return command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("session list", "To Lisbon"),
        ("session show trip", "Will it snow?"),
        ("session show trip --at -1", "no messages at -1"),
        ("session search snow", "trip"),
        ("session rename trip Porto", "Porto"),
        ("session fork trip trip2", "trip2"),
        ("session label trip here", "here"),
        ("session rewind other -1 --yes", "other"),
        ("session interrupt other", "other"),
        ("session delete trip --yes", "next vacuum"),
        ("store stats", "2"),
        ("store stats trip", "trip"),
        ("store verify", "all is well"),
        ("store recover", "No turns of dead workers"),
        ("store purge --yes", "next vacuum"),
        ("store purge trip --older-than 30d --yes", "Nothing was there to purge"),
        ("store migrate", f"is up to date: schema version {NEWEST}"),
        ("export trip", "holdfast-session"),
        ("doctor", "LISTEN works"),
    ],
)
def test_each_command(command: Command, line: str, said: str) -> None:
    """Each command does what it does on a file, and says what is true of PostgreSQL."""
    code = 1 if line == "session interrupt other" else 0
    assert said in command(line, code=code).output


def test_nothing_is_made_by_looking(database: str) -> None:
    """On a database without a store each command says so with exit code 3, and makes none."""
    url = f"{database}?schema=none"
    for line in ("session list", "store stats", "store verify", "session show x", "export --all"):
        result = CliRunner().invoke(cli, [*line.split(), "--store", url])
        assert result.exit_code == 3
        assert "there is no schema 'none'" in result.stderr
        assert "holdfast store migrate" in result.stderr


def test_migrating_makes_a_store(database: str) -> None:
    """`store migrate` makes the schema where there is none, and says so."""
    url = f"{database}?schema=made"
    made = CliRunner().invoke(cli, ["store", "migrate", "--store", url])
    assert f"made a store with schema version {NEWEST}" in made.stdout
    found = CliRunner().invoke(cli, ["session", "list", "--store", url])
    assert (found.exit_code, found.stdout) == (0, "")


def test_sessions_move_between_stores(command: Command, url: str, tmp_path: Path) -> None:
    """A session that was exported from PostgreSQL is imported into a file, and back."""
    exported = command("export --all").stdout
    (tmp_path / "all.jsonl").write_text(exported, "utf-8")
    holdfast.connect(tmp_path / "chats.db").close()
    line = ["import", str(tmp_path / "all.jsonl"), "--store"]
    assert CliRunner().invoke(cli, [*line, str(tmp_path / "chats.db")]).exit_code == 0
    other = f"{url}?schema=other"
    holdfast.connect(other).close()
    assert CliRunner().invoke(cli, [*line, other]).exit_code == 0
    with holdfast.connect(url) as first, holdfast.connect(other) as second:
        assert second.get_messages("trip") == first.get_messages("trip")


def test_json(command: Command, url: str) -> None:
    """What is printed as JSON names the store without a password."""
    stats = json.loads(command("store stats --json").stdout)
    assert (stats["store"], stats["sessions"]) == (url, 2)


def test_what_is_damaged(command: Command, url: str) -> None:
    """Of a damaged message both commands say what to do about a database, and nothing of files."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE holdfast.messages SET payload = replace(payload, 'snow', 'hail')"
        )
    verified = command("store verify", code=1)
    assert "trip" in verified.stdout
    assert "pg_dump" in verified.stdout
    assert "backup" in command("session show trip", code=1).stderr
