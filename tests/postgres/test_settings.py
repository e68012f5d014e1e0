"""Settings of a database, which its administrator may choose."""

from __future__ import annotations

import threading

import psycopg
import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.store.diagnosis import Finding
from holdfast.store.postgres.connections import parse_address
from holdfast.store.postgres.diagnosis import diagnose
from tests.turns.stage import wait_for


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
    findings = {each.code: each.level for each in _findings(database)}
    assert findings["server"] == "problem"
    assert findings["transactions"] == "ok"  # it looks at all the rest nevertheless


def test_client_encoding(database: str) -> None:
    """Whatever encoding a URL or a database prefers for clients, every character comes back."""
    _set(database, "client_encoding = 'LATIN1'")
    with holdfast.connect(f"{database}?client_encoding=latin1") as store:
        store.add_user_message("\u00e9\u20ac\U0001f980", "\u00e9\u20ac\U0001f980")
        (info,) = store.list_sessions()
        assert [m["content"] for m in store.get_chat_history(info.id)] == [info.id]


SHORT = {
    "lock_timeout": "10ms",
    "statement_timeout": "100ms",
    "idle_in_transaction_session_timeout": "10ms",
}


@pytest.mark.parametrize("setting", SHORT)
def test_short_timeouts(database: str, setting: str) -> None:
    """Whatever patience a role or a database has, a call waits for others as long as it may."""
    with holdfast.connect(database) as store:
        store.add_user_message("s", "before")
    with psycopg.connect(database, autocommit=True) as watcher, psycopg.connect(database) as holder:
        _set(database, f"{setting} = '{SHORT[setting]}'")
        holder.execute("SELECT FROM holdfast.sessions FOR UPDATE")
        with holdfast.connect(database) as store, holdfast.connect(database) as other:
            threads = [
                threading.Thread(target=store.add_user_message, args=("s", "one")),
                threading.Thread(target=other.edit_history, args=("s", lambda found: found[:1])),
            ]
            for thread in threads:
                thread.start()
            wait_for(lambda: _longest_wait_s(watcher) > 0.2, "waiting patiently")
            holder.rollback()
            for thread in threads:
                thread.join()
            found = [message["content"] for message in store.get_chat_history("s")]
    assert found in (["before"], ["before", "one"])


def _longest_wait_s(connection: psycopg.Connection[tuple[float]]) -> float:
    row = connection.execute(
        "SELECT coalesce(extract(epoch FROM max(clock_timestamp() - query_start)), 0)::float8 "
        "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    assert row is not None
    return row[0]


def test_a_statement_that_the_server_ends(database: str) -> None:
    """Who is cut short by a setting of the server is told which one, and where it is set."""
    holdfast.connect(database).close()
    with psycopg.connect(database) as holder:
        _set(database, "statement_timeout = '10ms'")
        holder.execute("LOCK holdfast.store")
        with pytest.raises(Unavailable, match="statement timeout") as raised:
            holdfast.connect(database, timeout=5)
    assert raised.value.code == "server_timeout"
    assert "ALTER ROLE" in raised.value.hint


def test_doctor_names_short_timeouts(database: str) -> None:
    """`doctor` warns of timeouts of the server that are shorter than writes may have to wait."""
    holdfast.connect(database).close()
    assert "timeouts" not in [each.code for each in _findings(database) if each.level != "ok"]
    _set(database, "lock_timeout = '20ms'")
    (found,) = [each for each in _findings(database) if each.code == "timeouts"]
    assert found.level == "warning"
    assert "lock_timeout=20ms" in found.what


def _findings(database: str) -> list[Finding]:
    return diagnose(parse_address(database, 30), "default", "a test")
