"""Stores that are searched: something said in them, and looks at their index from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import holdfast
from holdfast import SearchHit, SessionStore
from holdfast.model.message import Message


def ask(path: Path, statement: str) -> Any:
    """What another program reads in the file: the first value."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchone()[0]
    finally:
        connection.close()


def check_index(path: Path) -> None:
    """Fail unless the index is sound, and has one row for each message that it should have."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
        rows = connection.execute("SELECT rowid FROM search ORDER BY rowid").fetchall()
        assert rows == connection.execute("SELECT id FROM searched_messages").fetchall()
    finally:
        connection.close()


def places(hits: list[SearchHit]) -> list[tuple[str, int, int]]:
    """The addresses of hits."""
    return [(hit.session_id, hit.revision, hit.index) for hit in hits]


def user(text: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": text}


def say(path: Path, counts: dict[str, int]) -> None:
    """Say so much in these sessions, one message an entry."""
    with holdfast.connect(path, durability="relaxed") as store:
        for name, count in counts.items():
            for number in range(count):
                store.add_user_message(name, f"needle {number}")


def fill(store: SessionStore) -> list[list[SearchHit]]:
    """Say something, search, say more, and search again: what is found then."""
    for number in range(20):
        store.add_user_message(f"s{number % 3}", f"needle {'hay ' * number}")
    store.search("needle")
    store.add_user_message("s1", "needle last")
    store.set_chat_history("s2", [user("hay needle"), user("hay")])
    return found(store)


def found(store: SessionStore) -> list[list[SearchHit]]:
    """What some searches find."""
    return [store.search(query) for query in ("needle", "hay*", '"needle hay"', "last needle")]


def read_only(path: str) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    uri = f"file:{path}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def damage(path: Path, statement: str) -> None:
    """Change the file behind Holdfast's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    assert connection.execute(statement).rowcount != 0
    connection.close()
