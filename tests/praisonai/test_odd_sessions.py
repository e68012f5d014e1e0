"""Sessions that hold what no session of ours does: what comes over, and what is told."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import holdfast
from holdfast.agents import ManagedAgent
from holdfast.agents.managed import KEPT
from holdfast.integrations.praisonai import DefaultSessionStore, details
from tests.praisonai.conftest import said, write


def said_once(session_id: str, **more: Any) -> dict[str, Any]:
    """Return a session of one message, and what else its file holds."""
    return {"session_id": session_id, "messages": [{"role": "user", "content": "Hi"}], **more}


def nested(depth: int) -> str:
    """Return a JSON list in lists."""
    return "[" * depth + "]" * depth


DEEP = '{"session_id": "b", "messages": [{"role": "user", "content": "Hi", "metadata": {"a": %s}}]}'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (DEEP % nested(70), "it is nested deeper than 64 levels"),
        (DEEP % nested(500), "it is nested deeper than 64 levels"),
        (DEEP % nested(200_000), "it is nested deeper than 64 levels"),
        (DEEP[:-2] % nested(500), "it is nested deeper than 64 levels"),
        (
            {"session_id": "b", "messages": [{"role": "user", "content": "x" * (1 << 24)}]},
            "more than 16,777,216",
        ),
    ],
)
def test_a_session_that_cannot_be_stored(
    tmp_path: Path, target: Path, bring: Callable[..., Result], value: Any, why: str
) -> None:
    """It is named with its file and the reason; all others come over, and it does once mended."""
    folder = tmp_path / "sessions"
    write(folder, "a.json", said_once("a"))
    write(folder, "b.json", value)
    write(folder, "c.json", said_once("c"))
    result = bring(folder)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if "was not imported" in line]
    assert line.startswith("sessions/b.json: ")
    assert why in line
    assert f"Imported into {target}: 2 sessions." in result.stderr
    answer = json.loads(bring(folder, "--json").stdout)
    assert (answer["imported"], answer["unchanged"]) == ([], ["a", "c"])
    (failed,) = answer["failed"]
    assert failed["files"] == ["sessions/b.json"]
    assert why in failed["reason"]
    write(folder, "b.json", said_once("b"))
    again = bring(folder)
    assert again.exit_code == 0
    assert f"Imported into {target}: 1 session." in again.stderr
    assert said(target, "b") == ["Hi"]


def test_a_single_file_that_cannot_be_stored(tmp_path: Path, bring: Callable[..., Result]) -> None:
    """It is known as PraisonAI's, and says what is wrong with it."""
    write(tmp_path, "b.json", DEEP % nested(500))
    result = bring(tmp_path / "b.json")
    assert result.exit_code == 1
    assert "b.json: was not imported: it is nested deeper" in result.stderr


@pytest.mark.parametrize("index", ["x", None, 1.0, -5, [1]])
def test_checkpoints_that_stand_for_nothing(
    tmp_path: Path, target: Path, bring: Callable[..., Result], index: object
) -> None:
    """A compaction checkpoint without a usable place is kept aside, and the history is whole."""
    write(
        tmp_path / "sessions",
        "s.json",
        said_once("s", last_compaction={"message_index": index, "summary": "So far"}),
    )
    result = bring(tmp_path / "sessions")
    assert result.exit_code == 0, result.output
    with DefaultSessionStore(target) as store:
        found = store.get_session("s")
        assert found.last_compaction is None
        assert found.metadata["praisonai_last_compaction"]["summary"] == "So far"
        assert [one["content"] for one in store.get_working_history("s")] == ["Hi"]
        report = store.import_sessions(
            {"sessions": [said_once("t", last_compaction={"message_index": index})]}
        )
        assert report.as_dict()["imported"] == 1


def test_values_that_no_session_of_ours_has(
    tmp_path: Path, target: Path, bring: Callable[..., Result]
) -> None:
    """Roles that are no text, huge numbers and titles with a NUL come over as metadata or text."""
    folder = tmp_path / "sessions"
    numbers = '{"inf": 1e999, "digits": %s}' % ("9" * 5_000)
    write(
        folder,
        "s.json",
        '{"session_id": "s", "title": "a\\u0000b", "messages": ['
        '{"role": {"a": 1}, "content": "one"}, {"role": ["user"], "content": "two"},'
        '{"role": "user", "content": "three", "metadata": ' + numbers + "}]}",
    )
    result = bring(folder)
    assert result.exit_code == 0, result.output
    with holdfast.connect(target) as store:
        info, messages = store.get_session("s"), store.get_messages("s")
    assert [one["role"] for one in messages] == ["system", "system", "user"]
    assert messages[0]["metadata"] == {"praisonai_role": {"a": 1}}
    assert messages[2]["metadata"] == {"inf": "1e999", "digits": "9" * 5_000}
    assert (info.title, info.metadata["title"]) == (None, "a\0b")


HOSTILE = {
    KEPT: {"name": "X", "model": "gpt-4o", "base_url": "http://127.0.0.1:9/v1"},
    "praisonai_partial": {"id": 1},
    "praisonai_entry:notjson": 5,
    'praisonai_entry:["cost"]': 5,
    "praisonai_default:[1]": 3,
    "praisonai_import": {"messages": 0, "digest": ""},
    "cost": 3,
}


@pytest.mark.parametrize("place", ["file", "export"])
def test_reserved_metadata(
    tmp_path: Path, target: Path, bring: Callable[..., Result], place: str
) -> None:
    """No key of a foreign session's metadata, or beside it, says anything to Holdfast."""
    session = said_once("s", metadata=HOSTILE, managed_agent={"base_url": "http://127.0.0.1:9"})
    with DefaultSessionStore(target) as store:
        if place == "file":
            write(tmp_path / "sessions", "s.json", session)
            assert bring(tmp_path / "sessions").exit_code == 0
        else:
            assert store.import_sessions({"sessions": [session]}).imported == 1
        kept = store.store.get_session("s").metadata
        own = {key for key in kept if key.startswith(details.RESERVED)}
        assert own == {"praisonai_import"}
        assert kept["praisonai_import"] != HOSTILE["praisonai_import"]
        assert kept[f"imported:{KEPT}"] == HOSTILE[KEPT]
        assert store.list_sessions()[0]["cost"] == 3
        assert store.get_chat_history("s") == [{"role": "user", "content": "Hi"}]
    managed = ManagedAgent(store=str(target))
    managed.resume_session("s")
    assert managed.config.base_url is None


def test_reserved_metadata_that_is_there(tmp_path: Path) -> None:
    """What stands under a reserved name, whoever wrote it, keeps no reader from a session."""
    odd = {
        "praisonai_partial": {"id": 1},
        "praisonai_entry:notjson": 5,
        "praisonai_entry:": 5,
        "praisonai_entry:[]": 5,
        "praisonai_default:[1]": 3,
        'praisonai_entry:["map", "key"]': 7,
        "last_compaction": {"message_index": "x", "summary": 5},
        "runtime_state": {"runtime": 5},
    }
    with DefaultSessionStore(tmp_path / "own.db") as store:
        store.store.create_session("s", metadata=odd)
        store.store.add_user_message("s", "Hi")
        hi = [{"role": "user", "content": "Hi"}]
        assert store.get_chat_history("s") == store.get_working_history("s") == hi
        assert store.get_session("s").metadata == {"map": {"key": 7}}
        assert [one["session_id"] for one in store.list_sessions()] == ["s"]
        assert store.get_runtime_state("s", "runtime") == {}
        assert store.get_runtime_state("s", "runtime", "turn") == {}
        assert store.update_session_metadata("s", map=1)
        assert store.clear_runtime_state("s")
        assert store.set_chat_history("s", [*hi, *hi])


def test_odd_rows(tmp_path: Path, target: Path, bring: Callable[..., Result]) -> None:
    """A row of a database that cannot be read is named, and its neighbours come over."""
    place = tmp_path / "sessions.db"
    connection = sqlite3.connect(place)
    connection.execute("CREATE TABLE sessions (session_id, data)")
    rows: list[tuple[object, object]] = [
        ("a", json.dumps(said_once("a"))),
        (None, json.dumps(said_once(""))),
        (b"\xff", DEEP % nested(500)),
        (5, json.dumps({"messages": said_once("")["messages"]})),
        ("n", 10**12),
        ("z", json.dumps(said_once("z"))),
    ]
    connection.executemany("INSERT INTO sessions VALUES (?, ?)", rows)
    connection.execute("INSERT INTO sessions VALUES ('u', CAST(x'7bff' AS TEXT))")
    connection.commit()
    connection.close()
    result = bring(place)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert "sessions.db: 3 sessions, 3 messages; 2 rows hold no message" in lines
    assert "sessions.db: was not imported: row 2: the session has no id" in lines
    assert "sessions.db: was not imported: row 3: it is nested deeper than 64 levels" in lines
    with holdfast.connect(target) as store:
        assert {info.id for info in store.list_sessions()} == {"a", "5", "z"}


def test_files_that_cannot_be_read(
    tmp_path: Path, target: Path, bring: Callable[..., Result]
) -> None:
    """A damaged database is named, and the files beside it come over."""
    folder = tmp_path / "sessions"
    write(folder, "z.json", said_once("z"))
    (folder / "a.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    result = bring(folder)
    assert result.exit_code == 1
    assert "sessions/a.db: was not imported: " in result.stderr
    assert said(target, "z") == ["Hi"]


def test_exports_of_any_values(tmp_path: Path) -> None:
    """An export that no file can hold leaves out what cannot be stored, with the reason."""
    deep: list[Any] = []
    deep.append(deep)
    with DefaultSessionStore(tmp_path / "own.db") as store:
        store.add_user_message("deep", "kept")
        report = store.import_sessions(
            {
                "sessions": [
                    said_once("deep", metadata={"a": json.loads(nested(70))}),
                    said_once("circle", metadata={"a": deep}),
                    said_once("keys", metadata={(1, 2): 3}),
                    said_once("good"),
                ]
            },
            overwrite=True,
        )
        assert report.imported == 1
        reasons = {one["session_id"]: one["reason"] for one in report.skipped}
        assert reasons.keys() == {"deep", "circle", "keys"}
        assert reasons["deep"] == "import error: it is nested deeper than 64 levels"
        assert [one["content"] for one in store.get_chat_history("deep")] == ["kept"]


def test_long_ids_in_reports(tmp_path: Path, bring: Callable[..., Result]) -> None:
    """A report for people shows the beginning of a very long id; JSON has it whole."""
    folder = tmp_path / "sessions"
    long = "L" * 2_000
    write(folder, "l.json", said_once(long))
    write(folder, "m.json", {"session_id": f"M{long}", "messages": [{"content": "x" * (1 << 24)}]})
    text = bring(folder).stderr
    assert f"sessions/l.json: {'L' * 80}…, 1 message" in text
    assert "L" * 81 not in text
    answer = json.loads(bring(folder, "--json").stdout)
    assert answer["failed"][0]["session"] == f"M{long}"
    write(folder, "l.json", {"session_id": long, "messages": []})
    assert f"{'L' * 80}… was rewritten since" in bring(folder).stderr
