"""`holdfast store purge`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import holdfast
from holdfast.store.sources import Sources
from tests.cli.conftest import Run


@pytest.fixture
def grown(path: Path) -> Path:
    """The store, with two earlier generations of one session and one of another."""
    with holdfast.connect(str(path)) as store:
        store.rewind_session("trip", -1)
        store.add_user_message("trip", "And wind?")
        store.clear_session("trip")
        store.clear_session("other")
    return path


def test_purge(run: Run, grown: Path) -> None:
    """Purging says what there is, what went, and that the bytes are erased."""
    result = run("store", "purge", "--yes", "--store", str(grown))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert result.stderr == (
        f"From {grown}, this will go: 3 earlier generations.\n"
        "Purged 3 generations of 2 sessions, 5 messages; the bytes are erased.\n"
    )
    again = run("store", "purge", "--yes", "--store", str(grown))
    assert again.exit_code == 0
    assert again.stderr == f"Nothing was there to purge in {grown}.\n"


def test_purge_of_sessions(run: Run, grown: Path) -> None:
    """Only the sessions that are named are purged; one that is not there stops everything."""
    missing = run("store", "purge", "trip", "nope", "--yes", "--store", str(grown))
    assert missing.exit_code == 1
    found = json.loads(
        run("store", "purge", "trip", "trip", "--yes", "--json", "--store", str(grown)).stdout
    )
    assert found == {
        "store": str(grown),
        "tenant": "default",
        "sessions": 1,
        "generations": 2,
        "messages": 5,
        "erasure": "done",
    }
    with holdfast.connect(str(grown)) as store:
        assert store.stats("other").generations == 2


def test_purge_of_what_is_old(run: Run, path: Path) -> None:
    """--older-than leaves what ended since."""
    day = 86_400_000
    for back in (40, 20, 10):
        now = Sources().now_ms() - back * day
        with holdfast.connect(str(path), sources=Sources(now_ms=lambda now=now: now)) as store:  # type: ignore[misc] # a default binds it
            store.set_chat_history("old", [{"role": "user", "content": str(back)}])
    result = run("store", "purge", "--older-than", "30d", "--yes", "--store", str(path))
    assert result.stderr == (
        f"In {path} there are 3 earlier generations; those that ended so long ago will go.\n"
        "Purged 1 generation of 1 session, 0 messages; the bytes are erased.\n"
    )
    result = run("store", "purge", "old", "--older-than=2w", "--yes", "--store", str(path))
    assert "of old; those" in result.stderr
    assert "Purged 1 generation of 1 session, 1 message;" in result.stderr
    result = run("store", "purge", "--older-than", "999999999w", "--yes", "--store", str(path))
    assert "Nothing was there to purge" in result.stderr


@pytest.mark.parametrize("age", ["30", "d", "-1d", "30 days", "1y", ""])
def test_bad_ages(run: Run, grown: Path, age: str) -> None:
    """What is no age is wrong use, and says what one looks like."""
    result = run("store", "purge", f"--older-than={age}", "--yes", "--store", str(grown))
    assert result.exit_code == 2
    assert "30d" in result.stderr


def test_purge_needs_a_yes(run: Run, grown: Path) -> None:
    """Where nobody can be asked, purging without --yes is wrong use, and purges nothing."""
    result = run("store", "purge", "--store", str(grown))
    assert result.exit_code == 2
    assert "say --yes" in result.stderr
    with holdfast.connect(str(grown)) as store:
        assert store.stats().generations == 5


def test_purge_under_a_reader_is_pending(run: Run, grown: Path) -> None:
    """While a reader holds the bytes, purging says that they are erased later."""
    with holdfast.connect(str(grown)) as store:
        store.add_user_message("trip", "one more")
        reader = sqlite3.connect(grown, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sessions").fetchall()
        result = run("store", "purge", "--yes", "--store", str(grown))
        reader.close()
    assert result.exit_code == 0
    assert "a later write erases them" in result.stderr
