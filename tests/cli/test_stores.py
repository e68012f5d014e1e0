"""`holdfast store`, and the stores that are not there."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import holdfast
from tests.cli.conftest import Run

READING = [
    ["session", "list"],
    ["session", "show", "trip"],
    ["session", "show", "trip", "--turns"],
    ["session", "follow", "trip"],
    ["session", "interrupt", "trip"],
    ["session", "rename", "trip", "x"],
    ["session", "delete", "trip", "--yes"],
    ["session", "fork", "trip"],
    ["session", "rewind", "trip", "-1", "--yes"],
    ["session", "label", "trip", "x"],
    ["store", "purge", "--yes"],
    ["store", "recover"],
    ["export", "--all"],
    ["store", "stats"],
    ["store", "verify"],
]


def damage(path: Path) -> None:
    """Change one character of a stored message behind SQLite's back."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE messages SET payload = replace(payload, 'rain?', 'snow?')")
    connection.close()


def test_stats(run: Run, path: Path) -> None:
    """The counts are those of the store, for people and as JSON."""
    found = json.loads(run("store", "stats", "--json", "--store", str(path)).stdout)
    assert found.pop("size_bytes") >= path.stat().st_size
    assert found == {
        "store": str(path),
        "tenant": "default",
        "sessions": 2,
        "messages": 4,
        "entries": 5,
        "generations": 2,
        "usage": {
            "input_tokens": 0,
            "output_tokens": 0,
            "cached_tokens": 0,
            "requests": 0,
            "unknown": 0,
            "models": {},
        },
    }
    shown = run("store", "stats", "trip", "--store", str(path)).stdout
    assert str(path) in shown
    assert "Sessions     1\n" in shown


def test_stats_of_usage(run: Run, path: Path) -> None:
    """What model calls used is shown, and each model's part of it; a name is shown literally."""
    with holdfast.connect(str(path)) as store, store.turn("trip", "And tomorrow?") as turn:
        turn.record_usage(model="[bold]m\x1b", input_tokens=1200, output_tokens=7, cached_tokens=3)
        turn.record_usage(unknown=True)
    shown = run("store", "stats", "--store", str(path)).stdout
    assert "1,200 tokens in (3 cached), 7 out, 2 requests, 1 of them unknown" in shown
    assert "[bold]m" in shown
    assert "\x1b" not in shown
    found = json.loads(run("store", "stats", "trip", "--json", "--store", str(path)).stdout)
    assert found["usage"]["models"]["[bold]m\x1b"]["requests"] == 1
    assert found["usage"]["requests"] == 2


def test_verify_of_a_whole_store(run: Run, path: Path) -> None:
    """A store that is as written verifies with 0, and the result says what was looked at."""
    result = run("store", "verify", "--store", str(path))
    assert result.exit_code == 0
    assert result.stdout == f"Checked {path}: 2 sessions, 4 messages, 5 entries: all is well.\n"


def test_verify_names_what_is_damaged(run: Run, path: Path) -> None:
    """A changed message exits with 1 and names session, revision and problem."""
    damage(path)
    result = run("store", "verify", "--store", str(path))
    assert result.exit_code == 1
    assert "trip" in result.stdout
    assert "checksum" in result.stdout
    assert "1 problem." in result.stdout
    as_json = run("store", "verify", "trip", "--json", "--store", str(path))
    assert as_json.exit_code == 1
    found = json.loads(as_json.stdout)
    assert found["ok"] is False
    (problem,) = found["problems"]
    assert problem["session_id"] == "trip"
    assert str(problem["revision"]) in result.stdout
    assert run("store", "verify", "other", "--store", str(path)).exit_code == 0


def test_a_damaged_session_is_an_error_in_words(run: Run, path: Path) -> None:
    """Showing a damaged session exits with 1 and says how to find out more."""
    damage(path)
    result = run("session", "show", "trip", "--store", str(path))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "holdfast store verify" in result.stderr


@pytest.mark.parametrize("line", READING)
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_store_is_not_made(
    run: Run, tmp_path: Path, line: list[str], *, empty: bool
) -> None:
    """No command but `import` makes a store: none, or an empty file, is an exit with 3."""
    place = tmp_path / "none.db"
    if empty:
        place.touch()
    before = sorted(tmp_path.iterdir())
    result = run(*line, "--store", str(place))
    assert result.exit_code == 3
    assert f"there is no store at {place} (from --store)" in result.stderr
    assert "holdfast.connect(" in result.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert not empty or place.stat().st_size == 0


def test_the_default_store_is_not_made(run: Run, tmp_path: Path) -> None:
    """Without a name, the default place is looked at and named, and no store is made there."""
    result = run("session", "list")
    assert result.exit_code == 3
    assert str(tmp_path / "data/holdfast/holdfast.db") in result.stderr
    assert "from the default" in result.stderr
    assert not (tmp_path / "data").exists()


def test_an_empty_store_says_where_it_looked(run: Run, tmp_path: Path) -> None:
    """Each command that finds nothing says which store it looked in."""
    place = tmp_path / "new.db"
    holdfast.connect(str(place)).close()
    for line in (["session", "list"], ["store", "stats"], ["store", "verify"], ["export", "--all"]):
        result = run(*line, "--store", f"sqlite:///{place}")
        assert result.exit_code == 0
        assert str(place) in result.output
        assert "no sessions" in result.output.lower()
    found = json.loads(run("session", "list", "--json", "--store", str(place)).stdout)
    assert found["sessions"] == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("redis://localhost", 2),
        ("postgresql://127.0.0.1:1/x", 3),
        ("wrong://x", 2),
        ("", 2),
        ("sqlite://", 2),
        ("no-such-folder/x.db", 3),
        ("/dev/null/x.db", 3),
        (".", 3),
    ],
)
def test_wrong_addresses(run: Run, url: str, code: int) -> None:
    """A wrong address is wrong use, one that leads nowhere cannot be reached; both say why."""
    result = run("session", "list", "--store", url)
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")
    assert "Hint: " in result.stderr
    assert result.stdout == ""


def test_a_file_of_another_program_is_left_alone(run: Run, tmp_path: Path) -> None:
    """A file that is no store exits with 3 and stays as it is, to the byte."""
    place = tmp_path / "notes.txt"
    place.write_text("not a database, but long enough to be taken for one\n" * 100)
    before = place.read_bytes()
    result = run("store", "verify", "--store", str(place))
    assert result.exit_code == 3
    assert place.read_bytes() == before
