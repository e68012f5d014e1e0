"""Settings of a database, which its administrator may choose."""

from __future__ import annotations

import psycopg
import pytest

import holdfast
from holdfast.errors import Unavailable


def _set(database: str, setting: str) -> None:
    name = database.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET {setting}'.encode())


def test_read_only(database: str) -> None:
    """A write into a database that may only be read is refused, which leaves no doubt about it."""
    with holdfast.connect(database) as store:
        store.add_user_message("s", "before")
    _set(database, "default_transaction_read_only = on")
    with holdfast.connect(database, timeout=0.5) as store:
        with pytest.raises(Unavailable, match="may only be read") as raised:
            store.add_user_message("s", "after")
        assert raised.value.code == "read_only"
        assert len(store.get_chat_history("s")) == 1


def test_client_encoding(database: str) -> None:
    """Whatever encoding a URL or a database prefers for clients, every character comes back."""
    _set(database, "client_encoding = 'LATIN1'")
    with holdfast.connect(f"{database}?client_encoding=latin1") as store:
        store.add_user_message("\u00e9\u20ac\U0001f980", "\u00e9\u20ac\U0001f980")
        (info,) = store.list_sessions()
        assert [m["content"] for m in store.get_chat_history(info.id)] == [info.id]
