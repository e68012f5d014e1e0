"""Files that are strange, full, damaged, read-only or held: typed errors, and nothing lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import (
    ConfigError,
    CorruptEntry,
    HoldfastError,
    NotSupported,
    OutcomeUnknown,
    Unavailable,
)
from holdfast.store.sqlite import migrations
from holdfast.store.sqlite.connections import plain_connection
from holdfast.store.sqlite.queries import bulk
from tests.store.opening import FailingConnection, failing_connection, sqlite_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one acknowledged message in each of two sessions."""
    path = tmp_path / "chats.db"
    with holdfast.connect(str(path)) as store:
        store.add_user_message("a", "acknowledged")
        store.add_user_message("b", "acknowledged")
    return path


@pytest.fixture
def failing() -> Iterator[type[FailingConnection]]:
    """Connections on which a test lets a statement fail."""
    FailingConnection.fail_on = None
    FailingConnection.error_code = sqlite3.SQLITE_IOERR
    FailingConnection.opened = 0
    yield FailingConnection
    FailingConnection.fail_on = None


def contents(path: Path, session_id: str = "a") -> list[object]:
    """Read a session through a fresh store."""
    with holdfast.connect(str(path)) as store:
        return [message["content"] for message in store.get_chat_history(session_id)]


def tamper(path: Path, statement: str) -> None:
    """Change the file behind the store's back."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A SQLite file that is not ours is never written to, not even its journal mode."""
    path = tmp_path / "theirs.db"
    tamper(path, "CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program's") as raised:
        holdfast.connect(str(path))
    assert raised.value.code == "not_ours"
    assert raised.value.hint
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A text file keeps its text."""
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 200)
    with pytest.raises(ConfigError) as raised:
        holdfast.connect(str(path))
    assert raised.value.code == "not_ours"
    assert path.read_text() == "my notes\n" * 200


def test_a_newer_schema_is_refused(path: Path) -> None:
    """Code that does not know a schema does not touch it, and says what to do."""
    tamper(path, "PRAGMA user_version = 99")
    with pytest.raises(NotSupported, match="99") as raised:
        holdfast.connect(str(path))
    assert "upgrade" in raised.value.hint
    tamper(path, f"PRAGMA user_version = {migrations.newest()}")
    assert contents(path) == ["acknowledged"]


def test_a_store_held_beyond_the_deadline_is_unavailable(path: Path) -> None:
    """A stranger's write lock means `Unavailable`, certainly not written; then work goes on."""
    stranger = plain_connection(str(path))
    with holdfast.connect(str(path), timeout=0.3) as store:
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as raised:
            store.add_user_message("a", "too late")
        assert raised.value.retryable
        assert raised.value.hint
        assert [m["content"] for m in store.get_chat_history("a")] == ["acknowledged"]
        stranger.execute("ROLLBACK")
        store.add_user_message("a", "afterwards")
    stranger.close()
    assert contents(path) == ["acknowledged", "afterwards"]


def test_a_full_disk_is_an_error_and_loses_nothing(path: Path) -> None:
    """Writes fail with a hint until there is room; then the store works on, without reopening."""
    limit: list[int] = []

    def small(name: str) -> sqlite3.Connection:
        connection = plain_connection(name)
        for pages in limit:
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    limit.append(40)
    with sqlite_store(path, small) as store:
        written = 0
        refusal: HoldfastError | None = None
        while refusal is None:
            try:
                store.add_user_message("a", "x" * 4000)
                written += 1
            except (Unavailable, OutcomeUnknown) as error:
                refusal = error
        assert "space" in refusal.hint
        assert refusal.code == "disk_full"
        store._engine.backend._writer.connection.execute(  # type: ignore[attr-defined]
            "PRAGMA max_page_count = 100000"
        )
        store.add_user_message("a", "there is room again")
    found = contents(path)
    assert found == ["acknowledged", *["x" * 4000] * written, "there is room again"]


def test_a_file_that_cannot_grow_is_an_error_and_loses_nothing(path: Path) -> None:
    """The system refuses to extend the log: what was acknowledged before is all there."""
    script = """
        import resource, signal, sys, holdfast
        from holdfast.errors import OutcomeUnknown, Unavailable
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = holdfast.connect(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        written = 0
        try:
            while True:
                store.add_user_message("a", f"{written:06}" + "x" * 8000)
                written += 1
        except (Unavailable, OutcomeUnknown) as error:
            assert error.hint, error
        print(written, flush=True)
        import os
        os._exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = int(done.stdout)
    found = [str(content)[:6] for content in contents(path)]
    assert written > 5
    # The refused write may or may not be there: its outcome was called unknown.
    assert found[: written + 1] == ["acknow"] + [f"{n:06}" for n in range(written)]
    assert len(found) <= written + 2


def test_a_read_only_store_can_be_read(path: Path) -> None:
    """A user who may only read gets the messages, and a typed error when writing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = path.parent
    for part in (folder, *folder.parents):
        if part.stat().st_mode & 0o055 != 0o055 and part.owner() == "root":
            part.chmod(part.stat().st_mode | 0o055)
    script = """
        import os, sys
        # All of it now: the other user may not read Python's own files.
        import holdfast, holdfast.store.urls
        from holdfast.errors import ConfigError, Unavailable
        os.setuid(65534)
        try:
            store = holdfast.connect(sys.argv[1], timeout=1)
            store.add_user_message("a", "not allowed")
        except (Unavailable, ConfigError) as error:
            print(error.code, bool(error.hint), flush=True)
        else:
            print("written", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() in (["read_only", "True"], ["cannot_open", "True"]), done
    assert contents(path) == ["acknowledged"]


def test_a_read_only_connection_gives_a_typed_error(path: Path) -> None:
    """Reading works where writing does not, and the refusal says what to change."""

    def read_only(name: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{name}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )

    with sqlite_store(path, read_only) as store:
        assert len(store.get_chat_history("a")) == 1
        with pytest.raises(Unavailable) as raised:
            store.add_user_message("a", "not allowed")
    assert raised.value.code == "read_only"
    assert not raised.value.retryable
    assert contents(path) == ["acknowledged"]


def test_a_commit_that_fails_on_the_disk_is_unknown_and_its_connection_is_dropped(
    path: Path, failing: type[FailingConnection]
) -> None:
    """After an I/O error in COMMIT nobody knows; the connection is never used again."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("a", "before")
        writer = store._engine.backend._writer  # type: ignore[attr-defined]
        failing.fail_on = "COMMIT"
        with pytest.raises(OutcomeUnknown) as raised:
            store.add_user_message("a", "unknown", key="k")
        assert "same key" in raised.value.hint
        store.add_user_message("a", "unknown", key="k")
        assert store._engine.backend._writer is not writer  # type: ignore[attr-defined]
        store.add_user_message("a", "after")
    assert contents(path) == ["acknowledged", "before", "unknown", "after"]


def test_a_lone_writer_never_sees_the_drivers_errors(
    path: Path, failing: type[FailingConnection]
) -> None:
    """Whatever SQLite refuses comes as one of ours, for a caller alone as in a batch."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("a", "before")
        failing.fail_on = bulk("insert_messages", 1)
        failing.error_code = sqlite3.SQLITE_TOOBIG
        with pytest.raises(Unavailable):
            store.add_user_message("a", "never")
        store.add_user_message("a", "after")
    assert contents(path) == ["acknowledged", "before", "after"]


def test_a_statement_that_fails_on_the_disk_has_written_nothing(
    path: Path, failing: type[FailingConnection]
) -> None:
    """Before COMMIT the truth is certain: nothing happened, and the next write works."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("a", "before")
        failing.fail_on = "PRAGMA data_version"
        with pytest.raises(Unavailable) as raised:
            store.add_user_message("a", "never")
        assert raised.value.code == "io_error"
        store.add_user_message("a", "after")
    assert contents(path) == ["acknowledged", "before", "after"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE messages SET payload = replace(payload, 'acknowledged', 'forged')",
        "UPDATE messages SET payload = substr(payload, 1, 10)",
        "UPDATE messages SET payload = CAST(x'ff00fe' AS TEXT)",
        "UPDATE messages SET payload = ''",
        "UPDATE messages SET crc = crc + 1",
    ],
)
def test_a_damaged_payload_hurts_only_its_own_session(path: Path, damage: str) -> None:
    """`CorruptEntry` names the entry; adding there, and every other session, still work."""
    with holdfast.connect(str(path)) as store:
        revision = store.get_chat_history("a").revision
    tamper(path, f"{damage} WHERE revision = {revision}")
    with holdfast.connect(str(path)) as store:
        with pytest.raises(CorruptEntry, match=str(revision)) as raised:
            store.get_chat_history("a")
        assert raised.value.revision == revision
        assert raised.value.session_id == "a"
        with pytest.raises(CorruptEntry):
            store.get_messages("a")
        with pytest.raises(CorruptEntry):
            store.read_entries("a")
        later = store.add_user_message("a", "after the damage")
        entry = store.read_entries("a", after=revision)[0]
        assert entry.revision == later.revision
        assert [m["content"] for m in store.get_chat_history("b")] == ["acknowledged"]
        found = store.verify()
        assert not found
        assert {problem.session_id for problem in found.problems} == {"a"}
        assert revision in {problem.revision for problem in found.problems}
        assert store.delete_session("a")
        assert store.verify()


def test_a_row_that_points_to_another_generation_is_an_error(path: Path) -> None:
    """A reset is never shown as a message: a base that is wrong is a `CorruptEntry`."""
    with holdfast.connect(str(path)) as store:
        store.clear_session("a")
        store.add_user_message("a", "after")
    tamper(path, "UPDATE sessions SET base = pk << 32 WHERE id = 'a'")
    with holdfast.connect(str(path)) as store:
        for read in (store.get_chat_history, store.get_messages):
            with pytest.raises(CorruptEntry, match="without a role"):
                read("a")
        assert not store.verify()


def test_a_damaged_row_is_found(path: Path) -> None:
    """`verify` recomputes what a session's row says about its log."""
    tamper(path, "UPDATE sessions SET message_count = 7 WHERE id = 'a'")
    with holdfast.connect(str(path)) as store:
        found = store.verify()
        assert [problem.what for problem in found.problems] == [
            "the row's message count: 7; the log's: 1"
        ]
        assert store.verify("b")


@pytest.mark.parametrize("searched", [0, 1])
def test_a_lost_page_is_found(path: Path, searched: int) -> None:
    """`verify` has SQLite look at the whole file, whatever tables there are."""
    if searched:
        with holdfast.connect(str(path)) as store:
            store.search("acknowledged")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = 'sessions_by_rank'")
    db.close()
    with holdfast.connect(str(path)) as store:
        (problem,) = store.verify().problems
        assert "never used" in problem.what


def test_a_batch_with_an_impossible_write_still_commits_the_others(path: Path) -> None:
    """What SQLite refuses to hold fails alone: the batch is rolled back and run singly."""
    from holdfast.model.entry import EntryKind, NewEntry
    from holdfast.model.write import Write, WriteKind

    with sqlite_store(path) as store:
        backend = store._engine.backend
        good = store._writing.add("a", [{"role": "user", "content": "good"}], path="m[{}]")
        bad = Write(
            tenant="default",
            session_id="b",
            kind=WriteKind.ADD,
            entries=(NewEntry(EntryKind.MESSAGE, b"{}", 1 << 80, 1),),
        )
        assert backend.admit(wait=True)
        first, second, third = backend.commit([good, bad, good])
        backend.leave()
        assert isinstance(first, holdfast.Commit)
        assert isinstance(second, Unavailable)
        assert isinstance(third, holdfast.Commit)
    assert contents(path) == ["acknowledged", "good", "good"]
    assert contents(path, "b") == ["acknowledged"]


def test_a_schema_version_that_never_was_is_refused(path: Path) -> None:
    """A file of ours with version 0 is damaged, not new: nothing is made in it."""
    tamper(path, "PRAGMA user_version = 0")
    with pytest.raises(ConfigError) as raised:
        holdfast.connect(str(path))
    assert raised.value.code == "damaged_schema"
    tamper(path, f"PRAGMA user_version = {migrations.newest()}")
    assert contents(path) == ["acknowledged"]
