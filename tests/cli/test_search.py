"""`holdfast session search`."""

from __future__ import annotations

import json
from pathlib import Path

import holdfast
from tests.cli.conftest import Run


def test_hits_are_readable(run: Run, path: Path) -> None:
    """A hit shows its session, who said it, when, where it stands, and the text around it."""
    result = run("session", "search", "RAIN", "--store", str(path))
    assert result.exit_code == 0
    first, text, between, second, more = result.stdout.splitlines()
    assert first.startswith("trip  assistant · just now · revision 8589934597, message 0")
    assert (text, between, more) == ("  No rain", "", "  Will it rain?")
    assert second.startswith("trip  user · just now · revision ")
    assert result.stderr == ""


def test_hits_as_json(run: Run, path: Path) -> None:
    """The JSON says which store and tenant, and has each hit with the places of its matches."""
    found = json.loads(run("--json", "session", "search", "will rain", "--store", str(path)).stdout)
    assert (found["store"], found["tenant"]) == (str(path), "default")
    (hit,) = found["hits"]
    assert hit.pop("at").endswith("Z")
    assert hit.pop("revision") > 0
    assert hit == {
        "session_id": "trip",
        "index": 0,
        "role": "user",
        "snippet": "Will it rain?",
        "matches": [[0, 4], [8, 12]],
    }


def test_limit_and_user(run: Run, path: Path) -> None:
    """--limit shows the best and says that there may be more; --user leaves out other users'."""
    few = run("session", "search", "rain", "--limit", "1", "--store", str(path))
    assert few.stdout.count("revision") == 1
    assert "--limit shows more" in few.stderr
    assert (
        "trip" in run("session", "search", "rain", "--user", "alice", "--store", str(path)).stdout
    )
    nobody = run("session", "search", "rain", "--user", "bob", "--store", str(path))
    assert nobody.exit_code == 0
    assert nobody.stderr == f"There is no message of bob's that fits in {path}.\n"


def test_nothing_found(run: Run, path: Path) -> None:
    """A search without hits says which store it looked in, and is no failure."""
    result = run("session", "search", "snow", "--store", str(path), "--tenant", "other")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"There is no message that fits in {path} (tenant other).\n"


def test_a_query_without_words(run: Run, path: Path) -> None:
    """A query without a word is wrong use."""
    result = run("session", "search", "*", "--store", str(path))
    assert result.exit_code == 2
    assert "has no word" in result.stderr


def test_nothing_reaches_the_terminal(run: Run, tmp_path: Path) -> None:
    """No character of an id or a text moves a cursor or sets a colour, inside a match or beside."""
    path = tmp_path / "a.db"
    with holdfast.connect(path) as store:
        store.add_user_message("\x1b[31mred", "a\x1b[2J\x07 need\u202ele\x9b1m \u202eb\n\tc")
    for line in (["session", "search", "needle a 2j"], ["--json", "session", "search", "needle"]):
        shown = run(*line, "--store", str(path)).stdout
        assert r"need\u202ele" in shown
        assert not set(shown) & set("\x1b\x07\x9b\u202e\t")
