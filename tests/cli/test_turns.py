"""Turns on the command line: following them, listing them, stopping them, closing dead ones."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import holdfast
from holdfast.cli import slices
from holdfast.cli.turns import SeenTurn, turn_lines
from holdfast.model.entry import Entry
from holdfast.model.usage import TurnStatus
from holdfast.store.sources import Sources
from tests.cli.conftest import Run
from tests.started import started

COMMAND = [sys.executable, "-P", "-c", "from holdfast.cli.main import main; main()"]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
WAIT_S = 60


class Following:
    """`holdfast session follow` as a process, into a pipe."""

    def __init__(self, *line: str) -> None:
        self.process = started(
            subprocess.Popen(
                [*COMMAND, "session", "follow", *line],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        )
        self._shown = b""

    def read_until(self, text: str) -> None:
        """Read what it shows until it has shown this."""
        assert self.process.stdout is not None
        while text.encode() not in self._shown:
            more = self.process.stdout.read(4096)
            assert more, f"it ended before it showed {text!r}: {self._shown.decode()}"
            self._shown += more

    def end(self) -> tuple[int, str, str]:
        """Return its exit code, all that it showed, and what it said."""
        rest, said = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, (self._shown + rest).decode(), said.decode()


@pytest.fixture
def store(path: Path) -> Iterator[holdfast.SessionStore]:
    """The store, as a worker has it open."""
    with holdfast.connect(str(path)) as store:
        yield store


def die(path: Path, session: str = "trip", text: str = "It will") -> None:
    """Leave a turn as a worker does that dies: text is in the log, and the lease has run out."""
    past = Sources(now_ms=lambda: int(time.time() * 1000) - 600_000)
    with holdfast.connect(str(path), sources=past) as worker:
        turn = worker.turn(session, "And tomorrow?", key="k")
        turn.__enter__()
        turn.write(text)
        next(e for e in worker.follow(session) if e.kind == "delta")
        turn._shell.detach(turn._live)


# follow


def test_follow_shows_what_is_streamed(store: holdfast.SessionStore, path: Path) -> None:
    """What is there comes first, then each piece of text as it is streamed, once, with its turn."""
    following = Following("trip", "--store", str(path))
    following.read_until("  No\n  rain\n")
    with store.turn("trip", "And tomorrow?") as turn:
        following.read_until("  And tomorrow?\n")
        turn.write("Let me ")
        following.read_until("  Let me ")
        turn.write("see.\nOne moment.")
        following.read_until("see.\n  One moment.")
        turn.record_usage(input_tokens=1200, output_tokens=7)
        turn.add_message("assistant", "Let me see.\nOne moment.", tool_calls=[CALL])
        following.read_until("  calls weather({})  as call_1\n")
        turn.add_message("tool", "sunny", tool_call_id="call_1")
        following.read_until("  sunny\n")
        turn.write("Sun")
        following.read_until("  Sun")
        store.add_user_message("trip", "Hello?")
        following.read_until("  Hello?\n")
        turn.write("shine.")
    following.read_until(" completed")
    store.delete_session("trip")
    code, shown, said = following.end()
    assert (code, said) == (0, "Session trip was deleted.\n")
    assert shown.startswith("To Lisbon\nsession trip · user alice")
    assert f"\n── turn {turn.id} runs on " in shown
    assert re.search(
        rf"\n── turn {turn.id} completed, after [\d.]+ s, tokens: 1,200 in, 7 out\n", shown
    )
    assert shown.count("One moment.") == shown.count("Let me") == 1
    assert "\x1b" not in shown


def test_follow_says_how_a_turn_ended(store: holdfast.SessionStore, path: Path) -> None:
    """A turn that failed is marked with its error, and what was cut off says so."""
    following = Following("trip", "--store", str(path))
    following.read_until("  rain\n")
    with suppress(RuntimeError), store.turn("trip", "And tomorrow?") as turn:
        turn.write("It may")
        following.read_until("  It may")
        raise RuntimeError("model\x1b[31m down")
    following.read_until(r"failed (RuntimeError: model\x1b[31m down)")
    store.delete_session("trip")
    assert "  It may\n  (interrupted)\n" in following.end()[1]


def test_follow_begins_in_the_middle_of_a_turn(store: holdfast.SessionStore, path: Path) -> None:
    """Text that was streamed before is shown at once; a closed turn's text is not shown twice."""
    with store.turn("trip", "One?") as turn:
        turn.write("whole answer")
        next(e for e in store.follow("trip") if e.kind == "delta")
    with store.turn("trip", "Two?") as turn:
        turn.write("half of ")
        next(e for e in store.follow("trip") if e.kind == "delta" and e.turn == turn.id)
        following = Following("trip", "--store", str(path))
        following.read_until("  half of ")
        turn.write("it")
        following.read_until("half of it")
    following.read_until(f"turn {turn.id} completed")
    store.delete_session("trip")
    shown = following.end()[1]
    assert shown.count("whole answer") == shown.count("half of") == 1


def test_follow_shows_of_a_rewrite_what_is_new(store: holdfast.SessionStore, path: Path) -> None:
    """A rewritten history is marked; only its new messages are shown, the others are counted."""
    following = Following("trip", "--store", str(path))
    following.read_until("  rain\n")
    history = store.get_chat_history("trip")
    store.set_chat_history("trip", [{"role": "system", "content": "Be brief."}, *history[1:]])
    following.read_until("  Be brief.\n")
    store.clear_session("trip")
    following.read_until("── history cleared: 0 messages now, 0 as before\n")
    store.rename_session("trip", "Away")
    following.read_until('── changed {"title": "Away"}\n')
    store.delete_session("trip")
    shown = following.end()[1]
    assert "── history re" in shown
    assert shown.count("Will it rain?") == 1


def test_follow_as_json(store: holdfast.SessionStore, path: Path) -> None:
    """Each entry of the log is an object on its own line, from the first or after a revision."""
    with store.turn("trip", "One?") as turn:
        turn.write("yes")
        turn.record_usage(input_tokens=3)
    entries = store.read_entries("trip")
    revision = entries[-2].revision
    everything = Following("trip", "--json", "--store", str(path))
    everything.read_until('"completed"')
    rest = Following("trip", "--json", "--after", str(revision), "--store", str(path))
    rest.read_until('"completed"')
    store.delete_session("trip")
    code, shown, _ = everything.end()
    lines = [json.loads(line) for line in shown.splitlines()]
    assert code == 0
    assert [(e["revision"], e["kind"]) for e in lines] == [(e.revision, e.kind) for e in entries]
    assert lines[-1]["turn"] == turn.id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[-1]["at"])
    usage = next(line for line in lines if line["kind"] == "usage")
    assert usage["usage"]["input_tokens"] == 3
    assert json.loads(rest.end()[1]) == lines[-1]


def test_follow_ends_with_ctrl_c(store: holdfast.SessionStore, path: Path) -> None:
    """Ctrl-C exits with 130, ends the line, and says where to go on."""
    following = Following("trip", "--store", str(path))
    following.read_until("  rain\n")
    with store.turn("trip", "One?") as turn:
        turn.write("half")
        following.read_until("  half")
        following.process.send_signal(signal.SIGINT)
        code, shown, said = following.end()
        revision = next(e.revision for e in store.read_entries("trip") if e.kind == "delta")
    assert code == 130
    assert shown.endswith("  half\n")
    found = re.fullmatch(r"Go on with --after (\d+)\nInterrupted.\n", said)
    assert found is not None
    # What was shown at that very moment may be shown once more, but nothing is left out.
    assert int(found[1]) in (revision - 1, revision)


def test_follow_refused(run: Run, path: Path) -> None:
    """A session that is not there, and a revision that is not its own, exit with 1 or 2."""
    missing = run("session", "follow", "nope", "--store", str(path))
    assert missing.exit_code == 1
    assert f"this looked in {path}" in missing.stderr
    assert run("session", "follow", "trip", "--after", "5", "--store", str(path)).exit_code == 1
    assert run("session", "follow", "trip", "--after", "x", "--store", str(path)).exit_code == 2


@pytest.mark.parametrize("size", range(1, 9))
def test_a_log_is_read_in_slices(
    store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Each entry comes once and in order, and no more than a slice of them is asked for at once."""
    store.set_chat_history("trip", [{"role": "user", "content": f"{n}"} for n in range(200)])
    for number in range(3):
        with store.turn("trip", f"{number}?"):
            pass
    entries = store.read_entries("trip")
    asked: list[int | None] = []
    read = store.read_entries

    def reading(session_id: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        asked.append(limit)
        return read(session_id, after, limit)

    monkeypatch.setattr(slices, "SLICE", size)
    monkeypatch.setattr(store, "read_entries", reading)
    assert list(slices.log(store, "trip")) == entries
    assert list(slices.log(store, "trip", entries[-3].revision)) == entries[:-2]
    assert set(asked) == {size}


def test_follow_shows_a_long_log(store: holdfast.SessionStore, path: Path) -> None:
    """A conversation longer than a slice is shown whole, and only since its history was cleared."""
    store.add_user_message("trip", "Forget this.")
    store.clear_session("trip")
    for number in range(slices.SLICE):
        store.add_user_message("trip", f"Message {number}.")
    with store.turn("trip", "The last one.") as turn:
        following = Following("trip", "--store", str(path))
        following.read_until(f"turn {turn.id} runs")
        following.read_until("  The last one.\n")
    following.read_until(f"turn {turn.id} completed")
    store.delete_session("trip")
    shown = following.end()[1]
    assert re.findall(r"Message (\d+)\.", shown) == [str(n) for n in range(slices.SLICE)]
    assert "Forget this." not in shown


# show --turns


def test_show_turns(run: Run, store: holdfast.SessionStore, path: Path) -> None:
    """Each turn has a line, and one more for attempts, worker and reason, if they tell anything."""
    die(path)
    with store.turn("trip", "And tomorrow?", key="k") as first:
        first.record_usage(input_tokens=1200, output_tokens=34)
    with pytest.raises(RuntimeError), store.turn("trip", "Why?"):
        raise RuntimeError("model down")
    with store.turn("trip", "Well?"):
        pass
    head, *rows = run(
        "session", "show", "trip", "--turns", "--store", str(path)
    ).stdout.splitlines()
    assert " ".join(head.split()) == "TURN STATUS STARTED TOOK TOKENS IN OUT"
    assert re.match(rf"{first.id}  completed  +10 min ago  +10 min \d s  +1,200  +34$", rows[0])
    assert rows[1] == "  attempt 2, 1 call did not tell its tokens"
    assert " failed " in rows[2]
    assert re.fullmatch(r"  on \S+:\d+, RuntimeError: model down", rows[3])
    assert len(rows) == 5
    one = run("session", "show", "trip", "--turns", "--limit", "1", "--store", str(path)).stdout
    assert one.splitlines()[1].split() == rows[4].split()


def test_show_turns_on_a_narrow_terminal() -> None:
    """The longest times and the largest counts fit into 80 columns; reasons are folded."""
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    turn = SeenTurn("turn_0123456789abcdef", begun, TurnStatus.INTERRUPTED)
    turn.ended = begun + timedelta(hours=12, minutes=34)
    turn.tokens = {"input_tokens": 9_999_999, "output_tokens": 999_999, "cached_tokens": 0}
    turn.calls, turn.worker, turn.error = 1, "machine:4711", "word " * 40
    screen = Console(width=80, color_system=None)
    with screen.capture() as captured:
        screen.print(*turn_lines([turn]), sep="\n")
    head, row, *why = captured.get().splitlines()
    assert row.split()[-2:] == ["9,999,999", "999,999"]
    assert head.rstrip().endswith("OUT")
    assert " ".join(why).count("word") == 40


def test_show_turns_as_json(run: Run, store: holdfast.SessionStore, path: Path) -> None:
    """As JSON a turn has times, attempts, worker, reason and each kind of token."""
    with store.turn("trip", "One?") as turn:
        turn.record_usage(input_tokens=5, output_tokens=7, cached_tokens=2)
        store.interrupt("trip")
        assert turn.wait_interrupted(WAIT_S)
    (found,) = json.loads(
        run("session", "show", "trip", "--turns", "--json", "--store", str(path)).stdout
    )
    assert found["id"] == turn.id
    assert (found["status"], found["reason"], found["error"]) == ("interrupted", "requested", None)
    assert found["attempts"] == 1
    assert found["ended_at"].endswith("Z")
    assert found["seconds"] >= 0
    assert found["worker"]
    names = ("input_tokens", "output_tokens", "cached_tokens", "calls", "unknown_calls")
    assert [found[name] for name in names] == [5, 7, 2, 1, 0]


def test_a_turn_whose_worker_died_is_not_shown_as_running(
    run: Run, store: holdfast.SessionStore, path: Path
) -> None:
    """While its lease holds a turn runs; once it is over that is said, and since when."""

    def shown(session: str) -> tuple[str, str]:
        return _rows(run("session", "show", session, "--turns", "--store", str(path)).stdout)

    def turn(session: str) -> dict[str, Any]:
        line = ["session", "show", session, "--turns", "--json", "--store", str(path)]
        return dict(json.loads(run(*line).stdout)[-1])

    def listed() -> dict[str, Any]:
        found = json.loads(run("session", "list", "--json", "--store", str(path)).stdout)
        return {one["id"]: (one["status"], one["lease_left_s"]) for one in found["sessions"]}

    die(path)
    with store.turn("other", "One?"):
        assert " running " in shown("other")[0]
        assert turn("other")["status"] == "running"
        assert 0 < turn("other")["lease_left_s"] <= 30
        row, about = shown("trip")
        assert "  lease over " in row
        assert re.fullmatch(
            r"  on \S+:\d+, lease over since \d+ min \d+ s, "
            "closed by the next turn or by holdfast store recover",
            about,
        )
        assert turn("trip")["status"] == "running"
        assert turn("trip")["lease_left_s"] < -500
        (dead, over), (alive, left) = listed()["trip"], listed()["other"]
        assert (dead, alive) == ("running", "running")
        assert over < 0 < left
    store.recover()
    assert " interrupted " in shown("trip")[0]
    assert turn("trip")["lease_left_s"] is None
    assert listed()["trip"] == ("idle", None)


def _rows(shown: str) -> tuple[str, str]:
    _, *rows = shown.splitlines()
    return (rows[0], rows[1] if len(rows) > 1 else "")


def test_show_turns_of_a_session_without_any(run: Run, path: Path) -> None:
    """Nothing to show names the store; --turns goes with neither --at nor --full."""
    result = run("session", "show", "trip", "--turns", "--store", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Session trip has no turns in {path}.\n"
    assert (
        run("session", "show", "trip", "--turns", "--json", "--store", str(path)).stdout == "[]\n"
    )
    assert run("session", "show", "nope", "--turns", "--store", str(path)).exit_code == 1
    both = run("session", "show", "trip", "--turns", "--at", "-1", "--store", str(path))
    assert both.exit_code == 2


# interrupt, recover


@pytest.mark.parametrize("as_json", [False, True])
def test_interrupt(run: Run, store: holdfast.SessionStore, path: Path, *, as_json: bool) -> None:
    """A turn that runs is asked to stop, with 0; where none runs, it says so and exits with 1."""
    line = ["session", "interrupt", "trip", "--store", str(path), *(["--json"] if as_json else [])]
    with store.turn("trip", "One?") as turn:
        asked = run(*line)
        assert turn.wait_interrupted(WAIT_S)
    none = run(*line)
    assert (asked.exit_code, none.exit_code) == (0, 1)
    if as_json:
        assert json.loads(asked.stdout) == {"id": "trip", "interrupted": True}
        assert json.loads(none.stdout) == {"id": "trip", "interrupted": False}
    else:
        assert asked.stderr == "Asked the turn that runs in trip to stop.\n"
        assert none.stderr == f"No turn runs in session trip in {path}.\n"


def test_recover(run: Run, path: Path) -> None:
    """Turns of dead workers are closed and counted; what they had shown is kept."""
    die(path)
    die(path, "other", "Never \x1b[31m mind")
    closed = run("store", "recover", "--store", str(path))
    assert (closed.exit_code, closed.stdout) == (0, f"Closed 2 turns of dead workers in {path}.\n")
    shown = run("session", "show", "trip", "--store", str(path)).stdout
    assert "assistant  (interrupted)" in shown
    assert shown.endswith("  It will\n")
    again = run("store", "recover", "--store", str(path))
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr == f"No turns of dead workers in {path}.\n"
    found = json.loads(run("store", "recover", "--json", "--store", str(path)).stdout)
    assert found == {"store": str(path), "tenant": "default", "recovered": 0}


def test_recover_leaves_the_living_alone(
    run: Run, store: holdfast.SessionStore, path: Path
) -> None:
    """A turn that runs goes on."""
    with store.turn("trip", "One?") as turn:
        assert run("store", "recover", "--store", str(path)).exit_code == 0
        turn.write("mine")
    assert store.get_messages("trip")[-1]["content"] == "mine"
