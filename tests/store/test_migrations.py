"""Schemas of every version lead to this one, by whole steps only."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scripts.schema_fixture import FIXTURES, TENANTS, contents

import holdfast
from holdfast.cli.main import cli
from holdfast.errors import ConfigError, NotSupported, Unavailable
from holdfast.store.sqlite import migrations
from tests.started import started
from tests.store.opening import sqlite_store

OLD = sorted(FIXTURES.glob("schema_*.db"))
CONNECT = "import sys, holdfast; holdfast.connect(sys.argv[1]).add_user_message('all', 'here')"


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one version's fixture, with what was read from it beside it."""
    copy = tmp_path / "chats.db"
    shutil.copyfile(request.param, copy)
    shutil.copyfile(request.param.with_suffix(".json"), tmp_path / "chats.json")
    return copy


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the first version's fixture."""
    return Path(shutil.copyfile(FIXTURES / "schema_001.db", tmp_path / "old.db"))


def state(path: Path) -> tuple[int, int]:
    """Up to which version a file's schema is finished and prepared."""
    connection = sqlite3.connect(path)
    try:
        found = migrations.state(connection)
    finally:
        connection.close()
    return found.version, found.prepared


def schema(path: Path) -> list[tuple[str, ...]]:
    """What SQLite says of a file's tables, their columns and indexes."""
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        columns = [
            (table, *map(str, column[1:]))
            for (table,) in tables.fetchall()
            for column in connection.execute(f"PRAGMA table_xinfo({table})")
        ]
        indexes = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'")
        return sorted(columns) + sorted((name, str(sql)) for name, sql in indexes)
    finally:
        connection.close()


def test_every_version_has_a_fixture() -> None:
    """There is a fixture for every version of the schema that there ever was, this one too."""
    assert [path.stem for path in OLD] == [f"schema_{s.version:03}" for s in migrations.steps()]


def test_nothing_is_lost_on_the_way(fixture: Path) -> None:
    """Whatever was read from a store of an older version is read from it now, and it is whole."""
    expected = json.loads(fixture.with_suffix(".json").read_text("utf-8"))
    for tenant in TENANTS:
        found = contents(fixture, tenant)
        assert list(found) == list(expected[tenant])  # in the order of change
        assert found == expected[tenant]
        with holdfast.connect(fixture, tenant=tenant) as store:
            assert store.verify()


def test_an_old_store_goes_on(fixture: Path) -> None:
    """A store of an older version takes writes, remembers its keys and lists by change."""
    with holdfast.connect(fixture) as store:
        before = store.get_session("ada").message_count
        assert store.add_user_message("ada", "Hello", key="k1").replayed
        store.add_user_message("ada", "And now?")
        assert store.get_session("ada").message_count == before + 1
        assert store.list_sessions()[0].id == "ada"
        assert store.verify()


def test_an_old_store_is_searched(fixture: Path) -> None:
    """Whatever a store of an older version holds is found, in each tenant what is its own."""
    with holdfast.connect(fixture) as store:
        assert [hit.snippet for hit in store.search("hello ada")] == ["Hello Ada! ☕"]
        assert len(store.search("line", limit=1000)) == 200
        assert store.search("forgotten OR deleted") == store.search("tenant") == []
    with holdfast.connect(fixture, tenant="other") as store:
        assert [hit.session_id for hit in store.search("tenant")] == ["ada"]


def test_the_same_schema_as_a_new_store(fixture: Path, tmp_path: Path) -> None:
    """A store that was brought up to date has the very schema of a new one, its index too."""
    for path in (fixture, tmp_path / "new.db"):
        with holdfast.connect(path) as store:
            store.add_user_message("s", "Hello")
            store.search("hello")
    assert schema(fixture) == schema(tmp_path / "new.db")
    assert state(fixture) == state(tmp_path / "new.db") == (migrations.newest(),) * 2


def test_an_old_schema_can_be_refused(old: Path) -> None:
    """`migrate=False` refuses an old store, names the command, and changes nothing."""
    before = old.read_bytes()
    with pytest.raises(NotSupported, match=rf"holdfast store migrate --store {old}") as caught:
        holdfast.connect(old, migrate=False)
    assert caught.value.code == "old_schema"
    assert old.read_bytes() == before


def test_a_new_schema_is_not_refused(tmp_path: Path) -> None:
    """`migrate=False` opens a store that is up to date, and makes one that is new."""
    holdfast.connect(tmp_path / "new.db", migrate=False).close()
    holdfast.connect(tmp_path / "new.db", migrate=False).close()


def test_a_crash_leaves_the_old_schema(old: Path) -> None:
    """Whichever statement of a migration fails, the file is as it was, and the next try works."""
    before = contents_as_is(old)
    failed = 0
    for number in range(1, 200):

        class Failing(sqlite3.Connection):
            left = number

            def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
                if self.in_transaction and not statement.startswith(("ROLLBACK", "SELECT")):
                    Failing.left -= 1
                    if Failing.left == 0:
                        raise sqlite3.OperationalError("disk I/O error")
                return super().execute(statement, *rest)

        def factory(path: str, kind: type[sqlite3.Connection] = Failing) -> sqlite3.Connection:
            return sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, factory=kind
            )

        try:
            sqlite_store(old, factory).close()
        except Unavailable:
            failed += 1
            assert state(old) == (1, 1)
            assert contents_as_is(old) == before
        else:
            break
    assert failed >= 12  # every statement of both scripts had its turn, and COMMIT
    assert state(old) == (migrations.newest(),) * 2


def contents_as_is(path: Path) -> list[str]:
    """Every row of every table, read without Holdfast."""
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_the_old_code_goes_on_beside_a_prepared_schema(old: Path, tmp_path: Path) -> None:
    """After `before` alone, statements of the old code still work, and so does the new code."""
    run("--before", old)
    assert state(old) == (1, migrations.newest())
    connection = sqlite3.connect(old)
    connection.execute(
        "INSERT INTO sessions (pk, tenant, id, revision, history_revision, base, floor, "
        "message_count, created, updated, title, user_id, agent_name, meta) "
        "SELECT 99, tenant, 'old code', 99 << 32, 99 << 32, 99 << 32, 99 << 32, 0, 1, 1, "
        "NULL, NULL, NULL, '{}' FROM sessions LIMIT 1"
    )
    connection.commit()
    connection.close()
    with holdfast.connect(old, migrate=False) as store:
        store.add_user_message("new code", "Hello")
        assert store.list_sessions()[0].id == "new code"
        assert store.session_exists("old code")
    run(None, old)
    assert state(old) == (migrations.newest(),) * 2
    with holdfast.connect(old) as store:
        listed = [info.id for info in store.list_sessions()]
        assert listed[0] == "new code"
        assert listed[-1] == "old code"
        assert store.verify()


def test_the_old_code_changes_a_store_that_the_new_code_searches(old: Path) -> None:
    """Beside old code, which knows of no rank and no index, a search still finds what is there."""
    run("--before", old)
    with holdfast.connect(old, migrate=False) as store:
        assert len(store.search("line", limit=1000)) == 200
        connection = sqlite3.connect(old)
        pk, revision, ordinal = connection.execute(
            "SELECT pk, revision + 1, message_count FROM sessions WHERE id = 'long'"
        ).fetchone()
        payload = '{"role":"user","content":"a needle"}'
        connection.execute(
            "INSERT INTO messages (revision, kind, ordinal, attempt, at, payload, crc) "
            "VALUES (?, 'message', ?, 0, 1, ?, ?)",
            (revision, ordinal, payload, zlib.crc32(payload.encode())),
        )
        connection.execute(
            "UPDATE sessions SET revision = ?, history_revision = ?, message_count = ? + 1 "
            "WHERE pk = ?",
            (revision, revision, ordinal, pk),
        )
        connection.commit()
        assert [hit.session_id for hit in store.search("needle")] == ["long"]
        connection.execute("DELETE FROM messages WHERE revision >> 32 = ?", (pk,))
        connection.execute("DELETE FROM sessions WHERE pk = ?", (pk,))
        connection.commit()
        connection.close()
        assert store.search("line") == store.search("needle") == []
        assert len(store.search("hello")) == 1
        store.add_user_message("tools", "a needle")
    run(None, old)  # which gives other ranks
    with holdfast.connect(old) as store:
        assert [hit.session_id for hit in store.search("needle")] == ["tools"]


def test_several_processes_bring_one_store_up_to_date(old: Path) -> None:
    """Processes that open an old store at the same time all get it, and it is migrated once."""
    workers = [
        started(subprocess.Popen([sys.executable, "-W", "error", "-c", CONNECT, str(old)]))
        for _ in range(6)
    ]
    assert [worker.wait(60) for worker in workers] == [0] * 6
    with holdfast.connect(old) as store:
        assert len(store.get_chat_history("all")) == 6
        assert store.verify()


def test_the_command_says_what_it_did(old: Path) -> None:
    """`store migrate` names the versions, and says so when there is nothing to do."""
    newest = migrations.newest()
    assert f"schema version 1 before, {newest} now" in run(None, old)
    assert f"is up to date: schema version {newest}" in run(None, old)
    assert json.loads(run("--json", old))["now"] == {"version": newest, "prepared": newest}


def test_other_files_are_not_migrated(tmp_path: Path) -> None:
    """`migrate` refuses another program's database and leaves it as it is."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(ConfigError, match="another program's"):
        holdfast.connect(path)


def run(option: str | None, path: Path) -> str:
    """What `holdfast store migrate` prints."""
    line = ["store", "migrate", "--store", str(path), *([option] if option else [])]
    return CliRunner().invoke(cli, line, catch_exceptions=False).output
