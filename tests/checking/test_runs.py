"""Whole runs: 100,000 operations between the memory store and a SQLite file, 3,000 on a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import Unavailable
from holdfast.testing.checking import FAULTS, Plan, Report, Rule, check, plant, record
from holdfast.testing.checking.faults import planting
from holdfast.testing.checking.faults.plot import Fault
from holdfast.testing.checking.operation import Add, Committed
from holdfast.testing.checking.recording import by_session
from tests.checking.recordings import START, Script
from tests.stores import is_postgres

OPERATIONS = 50_000


def _check(plan: Plan) -> Report:
    report = check(plan)
    assert report.broken == []
    assert report.judged
    assert len(report.planted.caught) >= 25, report.planted.no_room
    assert report.operations >= plan.operations
    assert report.judgement.beyond * 100 < report.operations, "too much is judged by order alone"
    for outcome in ("written", "rewritten", "replayed", "history read", "refused: conflict"):
        assert report.outcomes[outcome] > 100, outcome
    assert report.outcomes["unknown write"] > 0
    return report


def test_threads_and_tasks_on_memory(tmp_path: Path) -> None:
    """50,000 operations of threads and tasks on one store in memory break no promise."""
    _check(Plan(url="memory://", folder=str(tmp_path), operations=OPERATIONS))


def test_processes_on_a_file(tmp_path: Path) -> None:
    """50,000 operations of four processes that are killed over and over break no promise.

    Nothing waits for the disk: what a process has handed to the system outlives its death.
    """
    plan = Plan(
        url=str(tmp_path / "checked.db"),
        folder=str(tmp_path / "recording"),
        operations=OPERATIONS,
    )
    report = _check(plan)
    assert report.kills >= 10
    assert report.outcomes["refused: deadline"] > 0
    assert report.unanswered > 0, "no kill hit an operation: a weak run"


def test_a_store_that_is_synced(url: str, tmp_path: Path) -> None:
    """The same holds, with fewer operations, where every commit waits for the disk."""
    plan = Plan(
        url=url,
        folder=str(tmp_path / "recording"),
        operations=3_000 if is_postgres(url) else 5_000,
        kills=4,
        relaxed=False,
    )
    assert check(plan).broken == []


def test_every_fault_can_be_planted_and_is_caught(tmp_path: Path) -> None:
    """A run of 20,000 operations has room for each of the planted faults, and none is missed."""
    recording = record(Plan(url="memory://", folder=str(tmp_path), operations=20_000))
    planted = plant(recording, 1)
    assert planted.missed == []
    assert sorted(planted.caught) == sorted(fault.name for fault in FAULTS)


def test_a_lost_append_is_planted_only_where_something_is_left() -> None:
    """Without its only append a session looks deleted, which breaks another rule."""
    gone = "an acknowledged append is gone"
    script = Script()
    script.did("a", (10, 20), Add(("x",)), Committed(START + 1, START + 1))
    script.entry(1, "x")
    assert gone in plant(by_session(script.finished()), 1).no_room
    script = Script()
    for number, text in enumerate(("x", "y"), 1):
        revision = START + number
        script.did("a", (number * 20, number * 20 + 9), Add((text,)), Committed(revision, revision))
        script.entry(number, text)
    assert gone in plant(by_session(script.finished()), 1).caught


def test_a_judge_that_misses_a_fault_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that is planted and not caught makes the whole run fail, whatever else was found."""
    harmless = Fault("nothing at all", Rule.READ, lambda plot: list(plot.operations))
    monkeypatch.setattr(planting, "FAULTS", (*FAULTS, harmless))
    report = check(Plan(url="memory://", folder=str(tmp_path), operations=3_000))
    assert report.planted.missed == ["nothing at all"]
    assert not report.judged
    assert "not judged" in report.broken[0]


def test_a_run_without_room_for_faults_is_not_judged(tmp_path: Path) -> None:
    """A recording too small to plant ten faults in proves nothing."""
    report = check(Plan(url="memory://", folder=str(tmp_path), operations=2, clients=1))
    assert report.judgement.violations == []
    assert not report.judged
    assert report.broken != []


def test_a_process_that_ends_by_itself_breaks_the_run_off(tmp_path: Path) -> None:
    """A client that fails is an error, with what it said, and no process is left."""
    folder = tmp_path / "recording"
    folder.mkdir()
    (folder / "p1c0.operations.jsonl").write_text("nonsense\n")
    plan = Plan(url=str(tmp_path / "checked.db"), folder=str(folder), operations=400)
    with pytest.raises(Unavailable, match=r"process 1 .* ended with 1"):
        record(plan)


def test_the_command_checks_both_stores(tmp_path: Path) -> None:
    """`python -m holdfast.testing.checking` says in JSON what it found of memory and of a file."""
    command = [sys.executable, "-m", "holdfast.testing.checking", "--operations", "4000"]
    done = subprocess.run(
        [*command, "--seed", "4", "--kills", "2", "--durability", "relaxed", "--json"],
        env={"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    memory, file = map(json.loads, done.stdout.splitlines())
    assert memory["store"] == "memory://"
    assert file["store"].startswith(str(tmp_path))
    for report in (memory, file):
        assert report["kept"]
        assert len(report["faults_caught"]) >= 10
