"""Deleting destroys: the bytes too."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import holdfast
from holdfast import SessionStore

SECRET = "correct horse battery staple"


def traces(folder: Path) -> list[str]:
    """Return the files that hold the secret or the session's id, byte for byte."""
    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        if SECRET.encode() in data or b"secret-session" in data or b"SECRET" in data:
            found.append(file.name)
    return found


def fill(store: SessionStore) -> None:
    """Write a secret session between others, in every place where text can stand."""
    for number in range(40):
        store.add_user_message("before", f"harmless {number} " + "x" * 300)
        store.add_user_message("secret-session", f"{SECRET} {number} " + "y" * 700)
        store.add_user_message("zafter", f"harmless {number} " + "z" * 300)
    store.add_user_message("secret-session", SECRET + "w" * 20_000, key="SECRET-key")
    store.set_chat_history("secret-session", [{"role": "user", "content": SECRET}])
    store.rename_session("secret-session", f"SECRET title: {SECRET}")
    store.update_session_metadata("secret-session", note=f"SECRET note {SECRET}")


def test_no_byte_of_a_deleted_session_is_left(tmp_path: Path) -> None:
    """Database, write-ahead log and shared memory hold nothing of it, and the store lives on."""
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        fill(store)
        assert "a.db" in traces(tmp_path) or "a.db-wal" in traces(tmp_path)
        deletion = store.delete_session("secret-session")
        assert deletion
        assert deletion.erasure == "done"
        assert traces(tmp_path) == []
        assert len(store.get_chat_history("before")) == 40
        assert store.verify()
    assert traces(tmp_path) == []


def test_a_reader_delays_the_erasure_which_is_remembered(tmp_path: Path) -> None:
    """While somebody reads an old state its bytes must stay; they go with the next chance."""
    path = tmp_path / "a.db"
    with holdfast.connect(str(path)) as store:
        fill(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        deletion = store.delete_session("secret-session")
        assert deletion
        assert deletion.erasure == "pending"
        assert traces(tmp_path) != []
        reader.execute("COMMIT")
        reader.close()
    with holdfast.connect(str(path)) as store:  # closing tried again
        assert traces(tmp_path) == []
        assert not store.session_exists("secret-session")


def test_a_pending_erasure_survives_the_process(tmp_path: Path) -> None:
    """It is remembered in the file: a later process's first write finishes it."""
    path = tmp_path / "a.db"
    reader = None
    with holdfast.connect(str(path)) as store:
        fill(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        assert store.delete_session("secret-session").erasure == "pending"
    reader.execute("COMMIT")
    assert traces(tmp_path) != []
    with holdfast.connect(str(path)) as store:
        store.add_user_message("before", "a later process")
        assert traces(tmp_path) == []
    reader.close()


def test_deleting_what_is_not_there_erases_nothing(tmp_path: Path) -> None:
    """`Deletion` is false and says so."""
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        deletion = store.delete_session("nobody")
        assert not deletion
        assert deletion.erasure == "none"
