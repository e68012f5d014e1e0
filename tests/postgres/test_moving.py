"""From a SQLite file to PostgreSQL, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import holdfast
from holdfast.cli.program import UNREACHABLE
from holdfast.testing.postgres import Replica, Server

COMMAND = [sys.executable, "-P", "-c", "from holdfast.cli.main import main; main()"]


def _fill(store: holdfast.SessionStore) -> None:
    for number in range(20):
        session = f"s{number}"
        store.add_messages(session, [{"role": "user", "content": "zero"}], key=f"key{number}")
        with store.turn(session, "Tell me", key="turn") as turn:
            turn.write("an answer, with \x01 and \\ and \U0001f980")
            turn.record_usage(input_tokens=number)
        history = store.get_chat_history(session)
        store.set_chat_history(session, history[1:])
        store.label(session, "here")
        store.rename_session(session, f"Title {number}")


def _all_of(url: str) -> dict[str, Any]:
    with holdfast.connect(url) as store:
        return {
            info.id: (
                info.title,
                info.metadata,
                store.get_messages(info.id),
                store.stats(info.id).usage,
            )
            for info in store.list_sessions(100)
        }


def _copy(source: str, target: str) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, "store", "copy", source, target, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _require_refusal(source: str, target: str) -> None:
    refused = subprocess.run(
        [*COMMAND, "store", "copy", source, target, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert refused.returncode == UNREACHABLE
    assert "may only be read" in refused.stderr
    assert "name the primary" in refused.stderr


def test_there_and_back(tmp_path: Path, database: str) -> None:
    """Nothing is different in PostgreSQL, nor in the file that is made of that again."""
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    with holdfast.connect(first) as store:
        _fill(store)
    assert _copy(first, database)["copied"] == 20
    assert _copy(first, database)["copied"] == 0
    assert _copy(database, last)["copied"] == 20
    before = _all_of(first)
    assert list(_all_of(database)) == list(before)
    assert _all_of(database) == _all_of(last) == before
    with holdfast.connect(last) as store:
        assert store.add_messages("s3", [{"role": "user", "content": "?"}], key="key3").replayed
        assert store.verify().problems == []


def test_a_standby_is_no_target(tmp_path: Path) -> None:
    """Whoever copies to a standby is told at once that it may only be read; from one it works."""
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    with holdfast.connect(first) as store:
        store.add_user_message("s", "hello")
    at_once = {"synchronous_commit": "remote_apply"}  # what is committed can be read at the standby
    with (
        Server.start(tmp_path / "primary", settings=at_once) as primary,
        Replica.of(primary, tmp_path / "standby") as standby,
    ):
        _copy(first, primary.url)
        with holdfast.connect(first) as store:
            store.add_user_message("s", "more")
        _require_refusal(first, standby.url)
        assert "read-only transaction" not in standby.log.read_text(), "nothing was tried"
        _require_refusal(first, f"{standby.url}?schema=new")
        assert _copy(standby.url, last)["copied"] == 1
