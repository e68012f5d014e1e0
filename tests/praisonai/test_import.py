"""`holdfast import` of what PraisonAI's own stores wrote."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli.main import cli
from holdfast.integrations.praisonai import DefaultSessionStore
from tests.praisonai.conftest import FIXTURE, said, write

SPILL = Path("state/session_spill")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of PraisonAI's."""
    return Path(shutil.copytree(FIXTURE, tmp_path / ".praisonai"))


def picture(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what is in a folder, and when it was changed."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def test_a_home(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """Every session comes over under its true id, and each file is accounted for."""
    result = bring(home)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    lines = result.stderr.splitlines()
    assert "sessions/trip.json: trip, 4 messages" in lines
    assert "sessions/notes.txt: left alone: no session's file" in lines
    assert "sessions/gateway/sessions.db: 1 session, 4 messages" in lines
    assert any(
        "telegram_42.json.corrupt-" in line
        and line.endswith("damaged, recovered: telegram:42, 5 messages")
        for line in lines
    )
    assert lines[-1] == (
        f"Imported into {target}: 7 sessions, 1 quarantined recovered, "
        "2 ids that had shared one file."
    )
    with holdfast.connect(target) as store:
        ids = {info.id for info in store.list_sessions()}
        assert store.verify()
    assert ids == {
        "trip",
        "resumed",
        "long",
        "telegram:42",
        "telegram_42",
        "slack:C1/9",
        "discord:7",
    }


def test_what_a_session_brings(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """Tool calls, times, metadata, title, owner and agent come over."""
    bring(home)
    written = json.loads((home / "sessions/trip.json").read_text("utf-8"))
    with holdfast.connect(target) as store:
        info = store.get_session("trip")
        messages = store.get_messages("trip")
        gateway = store.get_session("discord:7").metadata
    assert (info.title, info.user_id, info.agent_name) == ("To Lisbon", "ada", "Guide")
    assert (info.metadata["model"], info.metadata["total_tokens"]) == ("gpt-4o-mini", 42)
    assert info.created_at.isoformat()[:23] == written["created_at"][:23]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[0]["metadata"] == {"lang": "en"}
    assert messages[1]["tool_calls"] == written["messages"][1]["tool_calls"]
    assert messages[2]["tool_call_id"] == "call_1"
    assert messages[3]["content"].endswith("🌞")
    drop_in = DefaultSessionStore(target)
    for theirs, ours in zip(written["messages"], drop_in.get_session("trip").messages, strict=True):
        assert ours.timestamp == pytest.approx(theirs["timestamp"], abs=0.001)
    assert (gateway["gateway_session_id"], gateway["agent_id"]) == ("gateway-1", "greeter")
    assert [one["content"] for one in drop_in.get_working_history("resumed")] == [
        "They like stories.",
        "Go on",
    ]


def test_archived_messages(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """A summary stands before the latest messages, and that for which it stands is in the log."""
    bring(home)
    written = json.loads((home / "sessions/long.json").read_text("utf-8"))
    assert said(target, "long") == [one["content"] for one in written["messages"]]
    assert said(target, "long")[0].startswith("[Session Summary]")
    with holdfast.connect(target) as store:
        reset = next(entry for entry in store.read_entries("long") if entry.kind == "reset")
        before = store.get_chat_history("long", at=reset.revision - 1)
    every = [f"{what} {n}" for n in range(6) for what in ("question", "answer")]
    assert [message["content"] for message in before] == every


def test_what_was_rescued(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """What was put aside as damaged and what could not be saved is in its session, in order."""
    bring(home)
    assert said(target, "telegram:42") == [
        "from the colon 0",
        "to the colon 0",
        "from the colon 1",
        "to the colon 1",
        "from the colon 2",
    ]
    assert said(target, "telegram_42") == ["from the underscore", "to the underscore"]
    assert said(target, "slack:C1/9") == ["Is this saved?", "Only beside its file."]


def test_again(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """The same again changes nothing; what is new in the source comes over, once."""
    bring(home)
    before = {name: said(target, name) for name in ("trip", "long", "telegram:42")}
    again = bring(home, "--json")
    assert again.exit_code == 0
    answer = json.loads(again.stdout)
    assert (len(answer["unchanged"]), answer["imported"], answer["extended"]) == (7, [], [])
    file = home / "sessions/trip.json"
    data = json.loads(file.read_text("utf-8"))
    data["messages"].append({"role": "user", "content": "Thanks!", "timestamp": 1.0})
    file.write_text(json.dumps(data), "utf-8")
    with holdfast.connect(target) as store:
        store.add_user_message("trip", "said here")
    for expected in ("extended", "unchanged"):
        assert json.loads(bring(home, "--json").stdout)[expected].count("trip") == 1
    assert said(target, "trip") == [*before["trip"], "said here", "Thanks!"]
    assert {name: said(target, name) for name in before if name != "trip"} == {
        name: texts for name, texts in before.items() if name != "trip"
    }


def test_sessions_that_changed(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """A session that was rewritten in the source since is named, and left alone."""
    bring(home)
    file = home / "sessions/trip.json"
    data = json.loads(file.read_text("utf-8"))
    data["messages"][0]["content"] = "rewritten"
    file.write_text(json.dumps(data), "utf-8")
    result = bring(home)
    assert result.exit_code == 1
    assert "trip was rewritten since it was imported, and was left alone" in result.stderr
    assert said(target, "trip")[0] == "Will it rain in Lisbon?"


def test_sessions_of_others(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """A session that the store has from elsewhere is an error, or is left out on request."""
    with holdfast.connect(target) as store:
        store.add_user_message("trip", "mine")
    refused = bring(home)
    assert refused.exit_code == 1
    assert "there is already 'trip'" in refused.stderr
    with holdfast.connect(target) as store:
        assert [info.id for info in store.list_sessions()] == ["trip"]
    result = bring(home, "--skip-existing", "--json")
    assert json.loads(result.stdout)["foreign"] == ["trip"]
    assert said(target, "trip") == ["mine"]


def test_the_source_is_only_read(home: Path, bring: Callable[..., Result]) -> None:
    """Nothing in the source changes, not even beside a database with an open write-ahead log."""
    database = home / "sessions/gateway/sessions.db"
    with sqlite3.connect(database) as open_one:
        open_one.execute("PRAGMA journal_mode=WAL")
        open_one.execute("PRAGMA wal_autocheckpoint=0")
        row = json.dumps({"session_id": "late", "messages": [{"role": "user", "content": "hi"}]})
        open_one.execute("INSERT INTO sessions (session_id, data) VALUES ('late', ?)", (row,))
        open_one.commit()
        before = picture(home)
        result = bring(home, "--json")
        assert "late" in json.loads(result.stdout)["imported"]
        assert picture(home) == before
    open_one.close()


def test_other_ways_in(home: Path, target: Path, bring: Callable[..., Result]) -> None:
    """The folder of sessions, a database and a single file are recognised as well."""
    assert json.loads(bring(home / "sessions/gateway/sessions.db", "--json").stdout)[
        "imported"
    ] == ["discord:7"]
    assert json.loads(bring(home / "sessions/trip.json", "--json").stdout)["imported"] == ["trip"]
    found = json.loads(bring(home / "sessions", "--json").stdout)
    assert len(found["imported"]) == 5
    assert said(target, "slack:C1/9") == ["Is this saved?", "Only beside its file."]


def test_what_is_no_source(tmp_path: Path, target: Path, bring: Callable[..., Result]) -> None:
    """A folder without sessions, and a store of ours, are refused with what to do."""
    (tmp_path / "empty").mkdir()
    result = bring(tmp_path / "empty")
    assert result.exit_code == 2
    assert "~/.praisonai" in result.stderr
    assert bring(target).exit_code == 2
    assert bring(tmp_path / "missing").exit_code == 2
    (tmp_path / "any.txt").write_text("no session")
    assert bring(tmp_path / "any.txt", "--from", "praisonai").exit_code == 2
    assert bring(tmp_path / "empty", "--as", "x").exit_code == 2


def test_odd_files(tmp_path: Path, target: Path, bring: Callable[..., Result]) -> None:
    """Odd ids, roles, contents and times are kept as far as they can be stored."""
    folder = tmp_path / "sessions"
    odd = [
        {"role": "function", "content": "42", "timestamp": "2024-05-01T10:00:00"},
        {"role": "tool", "content": "no id"},
        {"role": "user", "content": {"b": [1]}, "metadata": {"nan": float("nan")}},
        None,
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
        {"role": "user", "content": "half a \\ud83d"},
        {"role": "user", "content": []},
    ]
    write(folder, "odd.json", {"session_id": "odd/1", "messages": odd, "user_id": ""})
    write(folder, "old.json", {"messages": [{"role": "user", "content": "no id inside"}]})
    write(
        folder,
        "lone.json",
        '{"session_id": "lone", "messages": [{"role": "user", "content": "\\ud83d!"}]}',
    )
    write(folder, "long.json", {"session_id": "x" * 600, "messages": odd[:1]})
    write(folder, "list.json", "[]")
    result = bring(folder)
    assert result.exit_code == 0, result.output
    with holdfast.connect(target) as store:
        messages = store.get_messages("odd/1")
        assert store.verify()
        ids = {info.id: info for info in store.list_sessions()}
    roles = ["system", "system", "user", "assistant", "user", "user"]
    assert [one["role"] for one in messages] == roles
    assert messages[0]["metadata"] == {"praisonai_role": "function"}
    assert messages[0]["created_at"] == "2024-05-01T10:00:00.000Z"
    assert messages[2]["content"] == '{"b": [1]}'
    assert messages[3]["metadata"]["praisonai_tool_calls"] == [{"function": {"name": "f"}}]
    assert messages[5]["content"] == ""
    assert said(target, "old") == ["no id inside"]
    assert said(target, "lone") == ["?!"]
    (hashed,) = ids.keys() - {"odd/1", "old", "lone"}
    assert ids[hashed].metadata["praisonai_session_id"] == "x" * 600


def test_copies_of_a_session(tmp_path: Path, target: Path, bring: Callable[..., Result]) -> None:
    """What a damaged copy and its successor both hold is there once; what only one holds too."""
    folder = tmp_path / "sessions"

    def session(*texts: str, at: float = 0) -> dict[str, Any]:
        messages = [
            {"role": "user", "content": text, "timestamp": at + n} for n, text in enumerate(texts)
        ]
        return {"session_id": "s", "messages": messages}

    cut = json.dumps(session("a", "b", "c"))[:-5]
    write(folder, "s.json.corrupt-1", cut)
    write(folder, "s.json.corrupt-2", json.dumps(session("x", at=50))[:-2] + "\ud800")
    write(folder, "s.json.corrupt-3", "{garbage")
    write(folder, "s.json", session("a", "b", "c", "d", at=100))
    result = bring(folder)
    assert result.exit_code == 0, result.output
    assert "s.json.corrupt-3: damaged, and holds no whole message" in result.stderr
    assert "2 quarantined recovered" in result.stderr
    assert said(target, "s") == ["x", "a", "b", "c", "d"]


def test_a_copy_of_a_single_message(
    tmp_path: Path, target: Path, bring: Callable[..., Result]
) -> None:
    """A copy that was made after the first message, with another time, doubles nothing."""
    folder = tmp_path / "sessions"
    first = {"role": "user", "content": "Hi"}
    answer = {"role": "assistant", "content": "Hello", "timestamp": 101.0}
    copy, whole = [first | {"timestamp": 1.0}], [first | {"timestamp": 100.0}, answer]
    write(folder / "backup", "s.json", {"session_id": "s", "messages": copy})
    write(folder, "s.json", {"session_id": "s", "messages": whole})
    assert bring(folder).exit_code == 0
    assert said(target, "s") == ["Hi", "Hello"]


def test_a_store_that_is_not_there_yet(home: Path, tmp_path: Path) -> None:
    """A newcomer's first command works: it makes the store, and says where."""
    target = tmp_path / "new.db"
    words = ["import", str(home), "--store", str(target)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert f"There was no store at {target} (from --store): made one." in result.stderr
    assert f"Imported into {target}: 7 sessions" in result.stderr
    assert "made one" not in CliRunner().invoke(cli, words).stderr


def test_no_store_is_made_for_nothing(tmp_path: Path) -> None:
    """What is no source, or a folder that is not there, makes no store."""
    (tmp_path / "empty").mkdir()
    target = tmp_path / "new.db"
    words = ["import", str(tmp_path / "empty"), "--store", str(target)]
    assert CliRunner().invoke(cli, words).exit_code == 2
    assert not target.exists()


def test_reports_count_what_they_imported(
    home: Path, target: Path, bring: Callable[..., Result]
) -> None:
    """A second report says that everything was there, and counts nothing that the first did."""
    bring(home)
    again = bring(home)
    assert again.exit_code == 0
    lines = again.stderr.splitlines()
    assert "sessions/trip.json: trip, 4 messages; imported before" in lines
    assert lines[-2:] == [
        f"Imported into {target}: nothing.",
        "7 sessions were there before, with nothing new.",
    ]
    answer = json.loads(bring(home, "--json").stdout)
    assert (answer["quarantined_recovered"], answer["shared_file"]) == (0, [])
    file = home / "sessions/trip.json"
    data = json.loads(file.read_text("utf-8"))
    data["messages"].append({"role": "user", "content": "Thanks!", "timestamp": 1.0})
    file.write_text(json.dumps(data), "utf-8")
    third = bring(home).stderr
    assert f"Imported into {target}: new messages of 1 session." in third
