"""`holdfast session fork`, `rewind` and `label`, and `--at`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import holdfast
from tests.cli.conftest import Run


def contents(path: Path, session: str = "trip") -> list[object]:
    """What a session's current history says."""
    with holdfast.connect(str(path)) as store:
        return [message["content"] for message in store.get_messages(session)]


def test_fork(run: Run, path: Path) -> None:
    """A fork says what it is and how much it holds, and begins where --at says."""
    result = run("session", "fork", "trip", "what-if", "--store", str(path))
    assert (result.stdout, result.stderr) == ("", "Forked trip into what-if: 4 messages.\n")
    assert contents(path, "what-if") == contents(path)
    found = json.loads(
        run("session", "fork", "trip", "--at", "-1", "--json", "--store", str(path)).stdout
    )
    assert (found["title"], found["message_count"]) == ("To Lisbon", 0)
    assert contents(path, found["id"]) == []


def test_fork_refused(run: Run, path: Path) -> None:
    """An id that is taken, and a session that is not there, exit with 1."""
    taken = run("session", "fork", "trip", "other", "--store", str(path))
    assert taken.exit_code == 1
    assert "exists already" in taken.stderr
    missing = run("session", "fork", "nope", "--store", str(path))
    assert missing.exit_code == 1
    assert f"this looked in {path}" in missing.stderr


def test_label(run: Run, path: Path) -> None:
    """A label says what it names, is shown, and can be used where a revision can."""
    result = run("session", "label", "trip", "answered", "--store", str(path))
    with holdfast.connect(str(path)) as store:
        revision = store.get_session("trip").labels["answered"]
        store.clear_session("trip")
    assert result.stderr == f"Session trip: answered is now the name of revision {revision}.\n"
    shown = run("session", "show", "trip", "--at", "answered", "--store", str(path)).stdout
    assert f"\nlabels answered ({revision})\n" in shown
    assert "Will it rain?" in shown
    found = json.loads(
        run(
            "session", "label", "trip", "again", "--at=answered", "--json", "--store", str(path)
        ).stdout
    )
    assert found["labels"] == {"answered": revision, "again": revision}
    listed = json.loads(run("session", "list", "--json", "--store", str(path)).stdout)
    assert listed["sessions"][0]["labels"] == found["labels"]


def test_show_at_so_many_back(run: Run, path: Path) -> None:
    """--at -1 shows the history before the last question, and says if that is empty."""
    result = run("session", "show", "trip", "--at", "-1", "--store", str(path))
    assert result.exit_code == 0
    assert f"Session trip has no messages at -1 in {path}." in result.stderr
    far = run("session", "show", "trip", "--at", "-2", "--store", str(path))
    assert far.exit_code == 2
    assert "has 1 user messages" in far.stderr


def test_unknown_label(run: Run, path: Path) -> None:
    """A label that is not there exits with 1 and lists those that are."""
    run("session", "label", "trip", "answered", "--store", str(path))
    result = run("session", "show", "trip", "--at", "nope", "--store", str(path))
    assert result.exit_code == 1
    assert "its labels are 'answered'" in result.stderr
    number = run("session", "label", "trip", "12", "--store", str(path))
    assert number.exit_code == 2


@pytest.mark.parametrize("order", [["-1", "--yes"], ["--yes", "-1"], ["--yes", "--", "-1"]])
def test_rewind_back(run: Run, path: Path, order: list[str]) -> None:
    """-1 takes the last question and what followed out of the history, wherever it stands."""
    with holdfast.connect(str(path)) as store:
        before = store.get_session("trip").revision
    result = run("session", "rewind", "--store", str(path), "trip", *order)
    assert result.exit_code == 0
    assert result.stderr == (
        f"In {path}, 4 messages will leave the history of trip, which then has 0.\n"
        f"Rewound trip: 4 messages left, and can be read with --at {before}.\n"
    )
    assert contents(path) == []
    shown = run("session", "show", "trip", "--at", str(before), "--store", str(path)).stdout
    assert "Will it rain?" in shown


def test_rewind_to_label(run: Run, path: Path) -> None:
    """A rewind to a label counts only what really leaves, also across generations."""
    run("session", "label", "trip", "answered", "--store", str(path))
    for text in ("And wind?", "And snow?"):
        with holdfast.connect(str(path)) as store:
            store.add_user_message("trip", text)
        found = json.loads(
            run(
                "session", "rewind", "trip", "answered", "--yes", "--json", "--store", str(path)
            ).stdout
        )
        assert (found["removed"], found["message_count"]) == (1, 4)
    assert len(contents(path)) == 4


def test_rewind_needs_a_yes(run: Run, path: Path) -> None:
    """Where nobody can be asked, rewinding without --yes is wrong use, and rewinds nothing."""
    result = run("session", "rewind", "trip", "-1", "--store", str(path))
    assert result.exit_code == 2
    assert "say --yes" in result.stderr
    assert len(contents(path)) == 4


def test_rewind_with_a_mistyped_option(run: Run, path: Path) -> None:
    """What is no option of rewind is not taken for one, and nothing is rewound."""
    for line in (["trip", "-1", "--yse"], ["trip", "--yse"]):
        assert run("session", "rewind", *line, "--store", str(path)).exit_code in (1, 2)
    assert len(contents(path)) == 4
