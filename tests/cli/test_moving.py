"""`holdfast store copy`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import holdfast
from holdfast.model.moving import Moved
from holdfast.store.moving import Moving
from tests.cli.conftest import Run
from tests.cli.test_processes import Terminal
from tests.cli.test_stores import damage


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a store is to be made."""
    return tmp_path / "target.db"


def test_everything(run: Run, path: Path, target: Path) -> None:
    """All sessions of all tenants are copied into a store that is made, and a second run knows."""
    with holdfast.connect(path, tenant="b") as store:
        store.add_user_message("trip", "b")
    result = run("store", "copy", str(path), f"sqlite:///{target}")
    assert (result.exit_code, result.stdout) == (0, "")
    copied, compared = result.stderr.splitlines()
    assert copied.startswith(
        f"Copied 3 sessions from {path} to {target}, brought 0 up to date, found 0 there already: "
        "5 messages, "
    )
    assert compared == f"Compared 3 sessions: {target} has all of it."
    with holdfast.connect(path) as ours, holdfast.connect(target) as theirs:
        assert theirs.get_messages("trip") == ours.get_messages("trip")
        assert [i.id for i in theirs.list_sessions()] == [i.id for i in ours.list_sessions()]
    again = run("store", "copy", str(path), str(target), "--json")
    found = json.loads(again.stdout)
    assert (again.exit_code, again.stderr) == (0, "")
    assert found.pop("seconds") > 0
    assert found == {
        "source": str(path),
        "target": str(target),
        "ok": True,
        "copied": 0,
        "updated": 0,
        "unchanged": 3,
        "checked": 3,
        "messages": 0,
        "entries": 0,
        "size_bytes": 0,
        "troubles": [],
    }


def test_one_tenant(run: Run, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--tenant names whose sessions are copied; the environment leaves none out."""
    with holdfast.connect(path, tenant="b") as store:
        store.add_user_message("s", "b")
    monkeypatch.setenv("HOLDFAST_TENANT", "default")
    run("store", "copy", str(path), str(target), "--tenant", "b")
    with holdfast.connect(target, tenant="default") as store:
        assert store.stats().sessions == 0
    assert run("store", "copy", str(path), str(target)).exit_code == 0
    with holdfast.connect(target, tenant="b") as store:
        assert store.stats().sessions == 1


def test_troubles(run: Run, path: Path, target: Path) -> None:
    """What was left out is named, with what to do, and the exit code is 1."""
    damage(path)
    with holdfast.connect(target) as store:
        store.create_session("other")
    result = run("store", "copy", str(path), str(target))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["TENANT", "SESSION", "PROBLEM"]
    assert "there is another session with this id" in lines[1]
    assert "session 'trip' is damaged at entry" in lines[2]
    assert "Compared 0 sessions: 2 problems." in result.stderr
    assert f"What {target} has under these ids was left as it is" in result.stderr
    assert "restore that store from a backup" in result.stderr
    found = json.loads(run("store", "copy", str(path), str(target), "--json").stdout)
    assert found["ok"] is False
    assert [(one["tenant"], one["session_id"], one["kind"]) for one in found["troubles"]] == [
        ("default", "other", "conflict"),
        ("default", "trip", "corrupt"),
    ]


def test_a_damaged_target(run: Run, path: Path, target: Path) -> None:
    """What the target's own storage says is damaged is told, though every session is equal."""
    run("store", "copy", str(path), str(target))
    with closing(sqlite3.connect(target)) as connection, connection:
        connection.execute("CREATE TABLE odd (number INTEGER NOT NULL)")
        connection.execute("INSERT INTO odd VALUES (1)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE TABLE odd (number INTEGER NOT NULL, "
            "more INTEGER NOT NULL)' WHERE name = 'odd'"
        )
    result = run("store", "copy", str(path), str(target))
    assert result.exit_code == 1
    assert "the store" in result.stdout
    assert "odd" in result.stdout


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["SOURCE"], 2, "Missing argument"),
        (["SOURCE", "TARGET", "more"], 2, "unexpected extra argument"),
        (["SOURCE", "TARGET", "--store", "x.db"], 2, "not with --store"),
        (["SOURCE", "TARGET", "--tenant", ""], 2, "tenant is empty"),
        (["SOURCE", "SOURCE"], 2, "are the same store"),
        (["SOURCE", "redis://localhost"], 2, "Redis"),
        (["SOURCE", "mysql://localhost"], 2, "'mysql' is not a kind of store"),
        (["SOURCE", "memory://"], 2, "a store in memory"),
        (["memory://", "TARGET"], 2, "a store in memory"),
        (["FOLDER/nope.db", "TARGET"], 3, "nope.db (from SOURCE)"),
        (["SOURCE", "FOLDER/no/x.db"], 3, "there is no folder"),
        (["FOREIGN", "TARGET"], 3, "another program's database"),
        (["SOURCE", "FOREIGN"], 3, "another program's database"),
    ],
    ids=str,
)
def test_wrong_use(run: Run, tmp_path: Path, line: list[str], code: int, words: str) -> None:
    """Wrong stores are refused in words, with the documented code, and no store is made."""
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    names = {"SOURCE": tmp_path / "chats.db", "TARGET": tmp_path / "target.db"}
    for name, place in {**names, "FOLDER": tmp_path, "FOREIGN": foreign}.items():
        line = [part.replace(name, str(place)) for part in line]
    result = run("store", "copy", *line)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert not names["TARGET"].exists()


def test_ctrl_c(run: Run, path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C exits with 130 and says how far it got; the same command goes on."""
    whole = Moving._bring

    def stopped(moving: Moving, tenant: str, session_id: str) -> None:
        if session_id == "trip":
            raise KeyboardInterrupt
        whole(moving, tenant, session_id)

    monkeypatch.setattr(Moving, "_bring", stopped)
    result = run("store", "copy", str(path), str(target))
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        "Stopped after copying 1 of 2 sessions. The same command goes on from there.\n"
        "Interrupted.\n"
    )
    monkeypatch.undo()
    found = json.loads(run("store", "copy", str(path), str(target), "--json").stdout)
    assert (found["copied"], found["unchanged"]) == (1, 1)


def test_ctrl_c_on_a_terminal(run: Run, path: Path, target: Path) -> None:
    """Ctrl-C while a session waits to be written ends the process, and leaves no half of it."""
    holdfast.connect(target).close()
    with closing(sqlite3.connect(target, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        terminal = Terminal("store", "copy", str(path), str(target))
        terminal.read_until(b"0 of 2 sessions")
        terminal.press_ctrl_c()
        code, shown = terminal.end()
    assert code == 130
    assert b"Stopped after copying 0 of 2 sessions." in shown.replace(b"\r\n", b" ")
    assert b"Traceback" not in shown
    with holdfast.connect(target) as store:
        assert store.stats().sessions == 0
    found = json.loads(run("store", "copy", str(path), str(target), "--json").stdout)
    assert (found["ok"], found["copied"]) == (True, 2)


def test_a_bar_on_a_terminal(path: Path, target: Path) -> None:
    """A terminal is shown a bar with the sessions done, and then what came of it."""
    code, shown = Terminal("store", "copy", str(path), str(target)).end()
    assert code == 0
    assert b"2 of 2 sessions" in shown
    assert b"copying" in shown
    assert b"checking" in shown
    assert b"has all of it." in shown.replace(b"\r\n", b" ")


def test_nothing_to_copy(run: Run, tmp_path: Path, target: Path) -> None:
    """An empty store is copied too: there is nothing that the target lacks."""
    holdfast.connect(tmp_path / "empty.db").close()
    result = run("store", "copy", str(tmp_path / "empty.db"), str(target))
    assert result.exit_code == 0
    assert target.exists()


def test_every_trouble_has_advice() -> None:
    """Whatever may be wrong, the command says what to do."""
    from holdfast.cli.moving import _ADVICE
    from holdfast.model.moving import TroubleKind

    assert set(_ADVICE) == set(TroubleKind)
    assert Moved()
