"""The store under torture, and the torture itself: what it says of a store can be relied upon."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import ConfigError
from holdfast.testing.torture import Findings, Plan, Progress, Report, check, storm
from holdfast.testing.torture.acknowledgements import (
    SUFFIX,
    AcknowledgementLog,
    last_line,
    read_acknowledgements,
)
from holdfast.testing.torture.follower import follow
from holdfast.testing.torture.plan import message
from holdfast.testing.torture.reader import Glance, Reads, read
from holdfast.testing.torture.rewriter import rewrite
from holdfast.testing.torture.streamer import stream
from holdfast.testing.torture.turns import TurnFindings
from holdfast.testing.torture.worker import save, write

SESSION = "plain-001"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan for a new store."""
    (tmp_path / "logs").mkdir()
    return Plan(url=str(tmp_path / "storm.db"), folder=str(tmp_path / "logs"), seed=7)


# The store


def test_a_storm_on_a_server_breaks_no_promise(plan: Plan, schema: str) -> None:
    """25 kills of writers, savers and a rewriter lose, double and move nothing on PostgreSQL."""
    report = storm(_with(plan, url=schema, seconds=3, kills=25))
    assert report.broken == []
    assert report.progress.kills == 25
    assert report.progress.saves > 0
    assert report.progress.rewrites > 0


@pytest.mark.timeout(150)
def test_a_storm_of_500_kills_breaks_no_promise(plan: Plan) -> None:
    """500 kills, at least a third of them between a write and its answer: all stands once."""
    report = storm(_with(plan, seconds=30, kills=500))
    assert report.broken == []
    assert report.progress.kills >= 500
    assert report.progress.unanswered * 3 >= report.progress.kills
    assert report.progress.replayed > 0, "no kill hit a write that had happened: a weak storm"
    found = report.findings
    assert found.found == found.acknowledged
    assert (found.lost, found.doubled, found.out_of_order, found.moved) == (0, 0, 0, 0)
    turns = found.turns
    assert turns.started == turns.completed == turns.acknowledged > 0
    assert turns.interrupted > 0
    assert turns.shown > 0
    assert (turns.missing, turns.prompts_doubled, turns.miscounted) == (0, 0, 0)


def test_a_short_storm_waits_until_work_is_under_way(plan: Plan) -> None:
    """However long its processes take to start, nothing is killed before there is work to hit."""
    report = storm(_with(plan, seconds=0.001, kills=1))
    assert report.broken == []
    assert report.progress.reads > 0
    assert report.findings.turns.shown > 0


def test_connecting_waits_for_whoever_makes_the_store(plan: Plan) -> None:
    """A process that comes while another still makes the file waits, as long as its timeout."""
    maker = sqlite3.connect(plan.url, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN EXCLUSIVE")
    done = threading.Timer(0.5, maker.rollback)
    done.start()
    with holdfast.connect(plan.url, timeout=20) as store:
        assert store.list_sessions() == []
    done.join()
    maker.close()


# What the storm notices


def test_a_storm_notices_what_saving_without_a_base_loses(plan: Plan) -> None:
    """The habit of other stores loses messages, and the storm says so."""
    report = storm(_with(plan, seconds=2, kills=5, naive=True))
    assert report.findings.lost > 0
    assert report.progress.partial_reads > 0
    assert not report.to_dict()["kept"]


def test_a_storm_notices_a_worker_that_ends_by_itself(plan: Plan) -> None:
    """A worker's own error ends the storm and is among the broken promises."""
    Path(plan.folder, "rewrites.log").write_text("nonsense\n")
    report = storm(_with(plan, seconds=60, kills=0))
    assert report.progress.elapsed_s < 30
    assert "rewriter ended with 1: ValueError: 'nonsense' is not a line" in report.broken[0]


def test_a_storm_that_proves_nothing_is_no_success(plan: Plan) -> None:
    """A store in which nothing was written or read keeps no promise."""
    assert Report(plan, Progress(), Findings()).broken
    turns = TurnFindings(acknowledged=1)
    written = Findings(acknowledged=1, found=1, turns=turns)
    assert Report(plan, Progress(reads=1), written).broken == []
    assert Report(plan, Progress(reads=9, empty_reads=1), written).broken == [
        "1 reads saw an empty history"
    ]
    assert Report(plan, Progress(reads=1), replace(written, turns=TurnFindings())).broken == [
        "no turn came to its end, so nothing is proven of turns"
    ]


def test_a_storm_refuses_a_store_of_one_process(plan: Plan) -> None:
    """Memory is each process's own, so a storm on it would prove nothing."""
    with pytest.raises(ConfigError, match="several processes"):
        storm(_with(plan, url="memory://"))


def test_whoever_ends_a_storm_early_leaves_no_process(plan: Plan) -> None:
    """After Ctrl-C in the middle of a storm every worker has ended."""

    def interrupt(progress: Progress) -> None:
        if progress.acknowledged:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storm(_with(plan, seconds=60), interrupt)
    assert _processes_of(plan) == []


# What the checker notices

Plant = Callable[[holdfast.SessionStore, Path], object]


def _lose(store: holdfast.SessionStore, _logs: Path) -> None:
    history = list(store.get_chat_history(SESSION))
    store.set_chat_history(SESSION, history[:3] + history[4:])


def _double(store: holdfast.SessionStore, _logs: Path) -> None:
    store.add_messages(SESSION, [message("writer1", 2)])


def _swap(store: holdfast.SessionStore, _logs: Path) -> None:
    history = list(store.get_chat_history(SESSION))
    store.set_chat_history(SESSION, [*history[2:4], *history[:2], *history[4:]])


def _invent(store: holdfast.SessionStore, _logs: Path) -> None:
    store.add_messages(SESSION, [message("writer9", 1)])


def _move(_store: holdfast.SessionStore, logs: Path) -> None:
    log = logs / f"writer1{SUFFIX}"
    revision = read_acknowledgements(log).revisions[2]
    log.write_text(log.read_text().replace(f"acked 2 {revision} ", f"acked 2 {revision + 1} "))


def _lose_session(store: holdfast.SessionStore, _logs: Path) -> None:
    store.delete_session(SESSION)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (_lose, {"found": 5, "lost": 1}),
        (_double, {"doubled": 1}),
        (_swap, {"out_of_order": 2}),
        (_invent, {"unknown": 1}),
        (_move, {"moved": 1}),
        (_lose_session, {"sessions": 0, "longest": "", "found": 0, "lost": 6, "moved": 0}),
    ],
)
def test_the_checker_finds_a_planted_fault(
    plan: Plan, plant: Plant, expected: dict[str, object]
) -> None:
    """One fault in a store that was right is found, and is all that is found."""
    logs = Path(plan.folder)
    right = {"sessions": 1, "longest": SESSION, "acknowledged": 6, "found": 6}
    with holdfast.connect(plan.url) as store:
        for number in (1, 2, 3):
            for worker in ("writer1", "writer2"):
                _add(store, logs, worker, number)
        assert check(plan.url, logs) == Findings(**right)  # type: ignore[arg-type] # as spelled
        plant(store, logs)
    findings = check(plan.url, logs)
    assert findings == Findings(**{**right, **expected})  # type: ignore[arg-type] # as spelled
    assert findings.broken


def test_a_write_without_an_answer_may_be_there_or_not(plan: Plan) -> None:
    """A write that was sent and not acknowledged is neither lost nor unknown, but never twice."""
    logs = Path(plan.folder)
    with holdfast.connect(plan.url) as store:
        _add(store, logs, "writer1", 1)
        with AcknowledgementLog(logs / f"writer1{SUFFIX}") as log:
            log.sent(2, SESSION)
        assert check(plan.url, logs).broken == []
        store.add_messages(SESSION, [message("writer1", 2)])
        assert check(plan.url, logs).broken == []
        store.add_messages(SESSION, [message("writer1", 2)])
    assert check(plan.url, logs).doubled == 1


def test_the_checker_finds_a_damaged_file(plan: Plan) -> None:
    """What `verify` finds is among the broken promises."""
    logs = Path(plan.folder)
    with holdfast.connect(plan.url) as store:
        _add(store, logs, "writer1", 1)
    connection = sqlite3.connect(plan.url)
    connection.execute("UPDATE sessions SET message_count = 5")
    connection.commit()
    connection.close()
    assert any("message count" in what for what in check(plan.url, logs).broken)


# What the parts do


def test_a_reader_notices_an_empty_and_a_partial_history(plan: Plan) -> None:
    """A history that was seen and then is empty, or lacks a message, is counted."""
    glance = Glance()
    with holdfast.connect(plan.url) as store:

        def look() -> Reads:
            history = store.get_chat_history(SESSION)
            glance.take(SESSION, {m["content"] for m in history})
            return glance.counted

        assert look() == Reads(0, 0, 0), "nobody has begun it"
        store.add_user_message(SESSION, "one")
        store.add_user_message(SESSION, "two")
        assert look() == Reads(1, 0, 0)
        store.set_chat_history(SESSION, [{"role": "user", "content": "one"}])
        assert look() == Reads(2, 0, 1)
        store.clear_session(SESSION)
        assert look() == Reads(3, 1, 1)


@pytest.mark.parametrize("part", [write, save])
@pytest.mark.parametrize("happened", [True, False])
def test_a_worker_repeats_its_unanswered_write(
    plan: Plan, part: Callable[[Plan, str], None], *, happened: bool
) -> None:
    """Whether the write of its earlier life had happened or not, it stands there once."""
    logs = Path(plan.folder)
    log = logs / f"worker1{SUFFIX}"
    plan.stop_file.touch()  # so each life writes one message
    part(plan, "worker1")
    number, session = 1, read_acknowledgements(log).sessions[1]
    if happened:
        log.write_text(f"sent 1 {session}\n")  # the answer was never heard
    else:
        number = 2
        with AcknowledgementLog(log) as worker:
            worker.sent(2, session)
    part(plan, "worker1")
    assert last_line(log).number == number  # type: ignore[union-attr] # there is one
    assert " replayed" in log.read_text() if happened else " replayed" not in log.read_text()
    findings = check(plan.url, logs)
    assert findings.broken == []
    assert findings.acknowledged == number


@pytest.mark.parametrize("part", [write, save, rewrite, read, stream, follow])
def test_a_worker_whose_supervisor_is_gone_ends(
    plan: Plan, part: Callable[[Plan, str], None]
) -> None:
    """Also one that had not begun to look when its supervisor died."""
    part(_with(plan, supervisor=_ended_process()), "worker1")


def test_a_log_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """A line that nobody wrote is an error, never skipped."""
    log = tmp_path / f"writer1{SUFFIX}"
    log.write_text("sent 1 a\nacked 1 5 maybe\n")
    with pytest.raises(ValueError, match="not a line of an acknowledgement log"):
        read_acknowledgements(log)


def _with(plan: Plan, **changes: object) -> Plan:
    return replace(plan, **changes)  # type: ignore[arg-type] # names and values as spelled


def _ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def _add(store: holdfast.SessionStore, logs: Path, worker: str, number: int) -> None:
    with AcknowledgementLog(logs / f"{worker}{SUFFIX}") as log:
        log.sent(number, SESSION)
        commit = store.add_messages(SESSION, [message(worker, number)])
        log.acked(number, commit.revision, replayed=commit.replayed)


def _processes_of(plan: Plan) -> list[str]:
    """Every process of the storm names its folder in its arguments, the forked ones too."""
    listed = subprocess.run(
        ["ps", "-Aww", "-o", "args="], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if plan.folder in line]
