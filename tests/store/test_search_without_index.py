"""Search where there is no index, or none that can be filled: it finds the same."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.store.sources import Sources
from holdfast.store.sqlite.connections import plain_connection
from holdfast.store.sqlite.queries import queries
from tests.store.opening import FailingConnection, failing_connection, sqlite_store
from tests.store.searched import ask, check_index, fill, found, places, read_only


class NoIndex(sqlite3.Connection):
    """A connection of a SQLite that was built without FTS5."""

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        """Run a statement; whatever needs FTS5 fails as it does without."""
        if "pragma_module_list" in statement:
            statement = statement.replace("'fts5'", "'fts0'")
        if "fts5(" in statement or "INTO search " in statement or "TABLE IF EXISTS" in statement:
            raise sqlite3.OperationalError("no such module: fts5")
        return super().execute(statement, *rest)


def without_fts5(path: str) -> sqlite3.Connection:
    """Open a `NoIndex` connection, as the backend opens its own."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=NoIndex)


@pytest.mark.parametrize("indexed", ["not at all", "in part", "up to date"])
def test_a_read_only_store(path: Path, indexed: str) -> None:
    """A store that cannot be written finds the same, however far its index has got."""
    with holdfast.connect(path) as store:
        expected = fill(store)
        if indexed == "in part":
            store.add_user_message("s0", "more")
            store.set_chat_history("s1", store.get_chat_history("s1")[1:])
        elif indexed == "not at all":
            connection = plain_connection(str(path))
            for table in ("messages", "sessions", "tenants"):
                connection.execute(f"DELETE FROM searched_{table}")
            connection.execute("DROP TABLE search")
            connection.close()
        with sqlite_store(path, read_only) as reader:
            there = found(reader)
            rows = ask(path, "SELECT count(*) FROM searched_messages")
        if indexed == "in part":
            expected = found(store)
        assert [set(places(hits)) for hits in there] == [set(places(hits)) for hits in expected]
        assert there == expected
        assert rows == {"not at all": 0, "in part": 17, "up to date": 17}[indexed]


def test_users_in_a_store_that_is_not_indexed(path: Path) -> None:
    """A scan leaves out other users' messages as the index does."""
    with holdfast.connect(path) as store:
        for name in ("ada", "bob"):
            store.create_session(name, user_id=name)
            store.add_user_message(name, "needle")
        with sqlite_store(path, read_only) as reader:
            assert [hit.session_id for hit in reader.search("needle", user_id="bob")] == ["bob"]
        store.search("needle")
        for name in ("ada", "bob"):
            store.add_user_message(name, "needle")
        with sqlite_store(path, read_only) as reader:
            assert [hit.session_id for hit in reader.search("needle", user_id="bob")] == ["bob"] * 2


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that cannot write its index for want of room finds what there is all the same."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("s", "needle")
        for statement in (queries()["put_search_mark"], "BEGIN IMMEDIATE"):
            monkeypatch.setattr(FailingConnection, "error_code", sqlite3.SQLITE_FULL)
            monkeypatch.setattr(FailingConnection, "fail_on", statement)
            assert len(store.search("needle")) == 1
            assert FailingConnection.fail_on is None
        assert len(store.search("needle")) == 1
        assert ask(path, "SELECT count(*) FROM searched_messages") == 1


def test_without_fts5(path: Path, tmp_path: Path) -> None:
    """A SQLite without FTS5 finds the same, and makes nothing that it could not read."""
    with holdfast.connect(tmp_path / "with.db", sources=ticking()) as store:
        expected = fill(store)
    with sqlite_store(path, without_fts5, sources=ticking()) as store:
        assert fill(store) == expected
        assert ask(path, "SELECT count(*) FROM sqlite_master WHERE name = 'search'") == 0
        assert ask(path, "SELECT count(*) FROM searched_sessions") == 0
        assert store.delete_session("s0").erasure == "done"


def test_an_index_that_one_of_two_can_read(path: Path) -> None:
    """A build without FTS5 finds, adds and deletes beside one that fills the index."""
    with holdfast.connect(path) as store, sqlite_store(path, without_fts5) as other:
        expected = fill(store)
        assert found(other) == expected
        other.add_user_message("s0", "added needle")
        assert len(store.search("added")) == 1
        assert other.delete_session("s0").erasure == "done"
        assert ask(path, "SELECT count(*) FROM search_docsize") == 0
        assert found(store) == found(other)
        assert store.search("added") == []
        check_index(path)
        assert other.delete_session("s1").erasure == "done"
        assert found(store) == found(other)


def ticking() -> Sources:
    """Time that goes on by itself, the same way each time."""
    ticks, ids = itertools.count(1_700_000_000_000), itertools.count(1)
    return Sources(now_ms=lambda: next(ticks) // 7, new_id=lambda: f"{next(ids):016x}")
