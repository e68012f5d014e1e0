"""The store after power failures, and the simulator itself: what it says can be relied upon."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.store.sqlite.arrivals import Arrivals
from holdfast.testing.powerloss import Plan, Report, Setting, Tally, campaign, run
from holdfast.testing.powerloss.campaign import Job, run_job
from holdfast.testing.powerloss.checking import check
from holdfast.testing.powerloss.disk import (
    Create,
    Disk,
    Operation,
    Sync,
    SyncFolder,
    Truncate,
    Unlink,
    Write,
)
from holdfast.testing.powerloss.recording import DATABASE, Recording
from holdfast.testing.powerloss.states import (
    CrashState,
    boundaries,
    crash,
    crash_states,
    first_points,
)
from holdfast.testing.powerloss.workload import record

WAL = f"{DATABASE}-wal"
JOURNAL = f"{DATABASE}-journal"
OLD, NEW = b"o" * 8192, b"N" * 8192


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder to start crash states in: as in a campaign, in memory where there is some."""
    with campaign._memory() as made:
        yield made


def recorded(path: Path, setting: Setting = Setting.WAL, seed: int = 1) -> Recording:
    """Record a run in a new folder."""
    folder = path / f"{setting.value}-{seed}-{len(list(path.iterdir()))}"
    folder.mkdir()
    return record(seed, setting, folder)


def after(
    *operations: Operation, start: bytes | None = None, draws: int = 400
) -> list[dict[str, bytes]]:
    """Draw states of a folder after operations on its file `a`, which is number 0."""
    disk = Disk(None if start is None else {"a": start})
    for operation in operations:
        disk.apply(operation)
    chance = random.Random(1)
    return [crash(disk, chance) for _ in range(draws)]


# The store


@pytest.mark.timeout(600)
def test_20_000_power_failures_lose_nothing() -> None:
    """In 20,000 crash states every acknowledged write is there once, and nothing else is."""
    report = run(Plan(seed=2_000, states=20_000, processes=min(2, os.cpu_count() or 1)))
    assert report.broken == []
    assert report.tally.states == 20_000
    assert report.tally.recordings == 20
    assert report.tally.in_flight > 10_000, "most failures should meet a call that is under way"


def test_a_rollback_journal_with_extra_loses_nothing() -> None:
    """Where there is no write-ahead log, Holdfast's own choice keeps the promise as well.

    A fifth of the 20,000 failures above are of that kind.
    """
    report = run(Plan(seed=7, states=400, settings=(Setting.JOURNAL,)))
    assert report.broken == []
    assert report.tally.states == 400


# What the simulator catches


@pytest.mark.parametrize(
    ("setting", "share"),
    [(Setting.WAL_NORMAL, 0.05), (Setting.WAL_OFF, 0.5), (Setting.JOURNAL_FULL, 0.02)],
)
def test_a_weaker_setting_is_caught(setting: Setting, share: float) -> None:
    """A SQLite that says it syncs, and syncs less than Holdfast asks for, loses messages."""
    report = run(Plan(seed=1, states=400, settings=(setting,)))
    assert report.tally.broken > share * report.tally.states
    assert "lost" in report.broken[0]
    assert f"seed 1, {setting.value}, life 1" in report.broken[0]


def test_a_forgotten_folder_sync_is_a_loss(tmp_path: Path, folder: Path) -> None:
    """Without the folder's syncs, of which most are invisible, the same run would lose messages."""
    sound = recorded(tmp_path)
    forgetful = replace(sound, operations=tuple(_without_folder_syncs(sound.operations)))
    assert _broken(sound, folder) == 0
    assert _broken(forgetful, folder) > 0


def _without_folder_syncs(operations: tuple[Operation, ...]) -> Iterator[Operation]:
    for operation in operations:
        # Something that changes nothing in its place, so that the points stay where they are.
        yield Write(0, 0, b"") if isinstance(operation, SyncFolder) else operation


def _broken(recording: Recording, folder: Path) -> int:
    states = crash_states(recording, random.Random(1), 400)
    return sum(bool(check(recording, state, folder)) for state in states)


# What the checker notices

Plant = Callable[[sqlite3.Connection, Recording], object]


def _lose_message(store: sqlite3.Connection, _recording: Recording) -> None:
    store.execute("DELETE FROM messages WHERE revision = (SELECT max(revision) FROM messages)")


def _double_message(store: sqlite3.Connection, _recording: Recording) -> None:
    store.execute(
        "INSERT INTO messages (revision, kind, ordinal, turn, attempt, at, payload, crc)"
        " SELECT revision + 1, kind, ordinal + 1, turn, attempt, at, payload, crc"
        " FROM messages ORDER BY revision DESC LIMIT 1"
    )
    store.execute("UPDATE sessions SET revision = revision + 1, message_count = message_count + 1")


def _change_message(store: sqlite3.Connection, _recording: Recording) -> None:
    store.execute("UPDATE messages SET payload = replace(payload, 'user', 'User')")


def _forget_key(store: sqlite3.Connection, recording: Recording) -> None:
    key = recording.moments[-1].keyed[0].write.key
    assert store.execute("DELETE FROM keys WHERE key = ?", (key,)).rowcount == 1


def _bring_session_back(store: sqlite3.Connection, _recording: Recording) -> None:
    store.execute(
        "INSERT INTO sessions (tenant, id, revision, history_revision, base, floor, message_count,"
        " created, updated, meta) VALUES ('default', 'gone', 0, 0, 0, 0, 0, 0, 0, '{}')"
    )


def _bring_bytes_back(store: sqlite3.Connection, recording: Recording) -> None:
    mark = recording.moments[-1].erased[0].decode()
    store.execute("INSERT INTO store (name, value) VALUES ('leftover', ?)", (mark,))


def _be_another_store(store: sqlite3.Connection, _recording: Recording) -> None:
    store.execute("UPDATE store SET value = 'another' WHERE name = 'identity'")


def _break_index(store: sqlite3.Connection, _recording: Recording) -> None:
    store.execute("PRAGMA writable_schema = ON")
    store.execute("DELETE FROM sqlite_master WHERE name = 'sessions_by_rank'")


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_lose_message, "1 acknowledged messages of session"),
        (_double_message, "were acknowledged"),
        (_change_message, "CorruptEntry"),
        (_forget_key, "is forgotten"),
        (_bring_session_back, "nobody made gone, or they were deleted"),
        (_bring_bytes_back, "was erased, and is in log.db"),
        (_be_another_store, "identity"),
        (_break_index, "verify:"),
    ],
)
def test_the_checker_finds_a_planted_fault(
    tmp_path: Path, folder: Path, plant: Plant, complaint: str
) -> None:
    """One fault in what a run left is found."""
    recording = recorded(tmp_path, seed=4)
    end = len(recording.operations)
    left = _left_after(recording, end)
    assert list(left) == [DATABASE]
    assert check(recording, CrashState(end, left), folder) == []
    assert list(folder.iterdir()) == []
    left[DATABASE] = _changed(tmp_path, left, lambda store: plant(store, recording))
    assert complaint in check(recording, CrashState(end, left), folder)[0]


def _left_after(recording: Recording, point: int) -> dict[str, bytes]:
    """Return the files if the power fails at a point and everything has reached the disk."""
    disk = Disk()
    for operation in recording.operations[:point]:
        disk.apply(operation)
    return disk.latest()


def _changed(
    folder: Path, files: dict[str, bytes], change: Callable[[sqlite3.Connection], object]
) -> bytes:
    """Return the database as it is after a change that is not Holdfast's."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    connection = sqlite3.connect(folder / DATABASE)
    change(connection)
    connection.commit()
    connection.close()
    return (folder / DATABASE).read_bytes()


def test_arrivals_leave_their_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs come to what puts arrivals in their place, and to their leaving after that."""
    left = []
    let_go = Arrivals._let_go

    def watched(arrivals: Arrivals, enough: int) -> None:
        before = arrivals.count
        let_go(arrivals, enough)
        left.append(before - arrivals.count)

    monkeypatch.setattr(Arrivals, "_let_go", watched)
    for seed in range(6):
        recorded(tmp_path, seed=seed)
    assert len(left) > 3
    assert all(count > 0 for count in left)


def test_only_the_call_under_way_may_be_there_too(tmp_path: Path, folder: Path) -> None:
    """What was not called yet, or was called before the one under way, is not excused."""
    recording = recorded(tmp_path)
    added = next(n for n, m in enumerate(recording.moments) if m.what == "add")
    moment = recording.moments[added]
    there = _left_after(recording, moment.done)
    assert check(recording, CrashState(moment.done, there), folder) == []
    assert check(recording, CrashState(moment.done - 1, there), folder) == [], "in flight"
    assert check(recording, CrashState(moment.begun, there), folder) != [], "not called yet"
    later = recording.moments[added + 2].done
    assert check(recording, CrashState(later, there), folder) != [], "lost"


def test_an_interrupted_erasure_must_be_finished(tmp_path: Path, folder: Path) -> None:
    """Bytes of a session that was being deleted may be there, but not after the next write."""
    recording = recorded(tmp_path, seed=4)
    deleting = next(m for m in recording.moments if m.what == "delete" and m.erased)
    left = _left_after(recording, deleting.done)
    under_way = CrashState(deleting.done - 1, left)
    assert check(recording, under_way, folder) == []
    mark = deleting.erased[0].decode()
    left[DATABASE] = _changed(
        tmp_path, left, lambda store: store.execute("INSERT INTO store VALUES ('x', ?)", (mark,))
    )
    del left[WAL]
    assert check(recording, under_way, folder) == [f"{mark} was erased, and is in {DATABASE}"]


def test_trying_nothing_is_no_success() -> None:
    """A report without states proves nothing and says so."""
    assert Report(1, (Setting.WAL,), Tally(), 1.0).broken


# What the disk may do


def test_what_was_not_synced_may_be_lost_or_not() -> None:
    """A write without a sync is gone in some states, there in others, and in some partly."""
    contents = {state["a"] for state in after(Write(0, 0, NEW), start=OLD)}
    assert {OLD, NEW} < contents
    assert any(b"o" in content and b"N" in content for content in contents)


def test_what_was_synced_is_never_lost() -> None:
    """A synced write is in every state, whatever was written afterwards elsewhere."""
    done: list[Operation] = [Write(0, 0, NEW), Sync(0), Write(0, 8192, OLD), Truncate(0, 9_000)]
    for state in after(*done, start=OLD):
        assert state["a"].startswith(NEW)


def test_writes_arrive_in_any_order() -> None:
    """Of two writes either may be there without the other."""
    contents = {
        state["a"]
        for state in after(Write(0, 0, NEW[:4096]), Write(0, 4096, NEW[4096:]), start=OLD)
    }
    assert NEW[:4096] + OLD[4096:] in contents
    assert OLD[:4096] + NEW[4096:] in contents


def test_a_sector_never_goes_back_behind_a_later_write_to_it() -> None:
    """Where two writes met in one sector, the later one is not there without the earlier."""
    first, second = Write(0, 0, b"1" * 100), Write(0, 200, b"2" * 100)
    for state in after(first, second, start=OLD):
        if b"2" * 100 in state["a"]:
            assert b"1" * 100 in state["a"]


def test_sectors_are_torn() -> None:
    """A sector may hold a part of the new bytes, at its beginning or end, or nothing sensible."""
    contents = [state["a"] for state in after(Write(0, 0, NEW[:512]), start=OLD[:512])]
    kinds = {(content[:1] == b"N", content[-1:] == b"N") for content in contents}
    assert {(True, False), (False, True)} < kinds
    assert any(set(content) - set(b"oN") for content in contents)


def test_no_byte_outside_of_a_write_changes() -> None:
    """The rest of a torn sector is as it was: what SQLite calls powersafe overwrite."""
    for state in after(Write(0, 100, b"N" * 200), Write(0, 700, b"N" * 9), start=OLD):
        content = state["a"]
        assert content[:100] + content[300:700] + content[709:] == b"o" * (8192 - 209)


def test_a_file_may_have_grown_without_its_bytes() -> None:
    """An unsynced end may be missing, or be there as zeros or as anything."""
    contents = {state["a"] for state in after(Write(0, 4096, NEW[:4096]), start=OLD[:4096])}
    assert OLD[:4096] in contents
    assert OLD[:4096] + NEW[:4096] in contents
    assert OLD[:4096] + bytes(4096) in contents
    assert all(content.startswith(OLD[:4096]) for content in contents)


def test_a_cut_file_may_be_long_again() -> None:
    """Before a sync the old bytes may be back; after it they are not."""
    cut = Truncate(0, 10)
    assert {state["a"] for state in after(cut, start=OLD)} == {OLD, OLD[:10]}
    assert {state["a"] for state in after(cut, Sync(0), start=OLD)} == {OLD[:10]}


def test_a_new_file_needs_its_folder_synced() -> None:
    """Synced bytes do not help if the name is lost; once the folder is synced it is there."""
    made: list[Operation] = [Create("b", 1), Write(1, 0, NEW), Sync(1)]
    found = [state.get("b") for state in after(*made)]
    assert set(found) == {None, NEW}
    assert {state.get("b") for state in after(*made, SyncFolder())} == {NEW}


def test_a_deleted_file_may_come_back() -> None:
    """Until the folder is synced a name may lead to what it led to, also if it was made anew."""
    assert {state.get("a") for state in after(Unlink("a"), start=OLD)} == {None, OLD}
    assert after(Unlink("a"), SyncFolder(), start=OLD, draws=20) == [{}] * 20
    anew: list[Operation] = [Unlink("a"), Create("a", 1), Write(1, 0, NEW), Sync(1)]
    assert {state.get("a") for state in after(*anew, start=OLD)} == {None, OLD, NEW}
    assert {state.get("a") for state in after(*anew, SyncFolder(), start=OLD)} == {NEW}


# What is recorded


@pytest.mark.parametrize("setting", list(Setting))
def test_the_record_is_what_happened(tmp_path: Path, setting: Setting) -> None:
    """Played back, a recording leaves the very files that the run left, at every clean end."""
    folder = tmp_path / "run"
    folder.mkdir()
    disk = Disk()
    for operation in record(3, setting, folder).operations:
        disk.apply(operation)
    locks = {f"{DATABASE}-queue", f"{DATABASE}-write"}  # the turnstile's, which hold nothing
    left = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in locks}
    assert disk.latest() == left


def test_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    """A seed gives the same operations and the same states, so that a failure can be seen again."""
    first, second = recorded(tmp_path, seed=5), recorded(tmp_path, seed=5)
    assert first == second
    assert first.operations != recorded(tmp_path, seed=6).operations
    states = [list(crash_states(first, random.Random(2), 50)) for _ in range(2)]
    assert states[0] == states[1]


def test_folder_syncs_are_recorded_where_sqlite_makes_them(tmp_path: Path) -> None:
    """The first sync of each journal and log brings its folder along; of unlinks only EXTRA's."""
    for setting, unlink_is_synced in (
        (Setting.JOURNAL, True),
        (Setting.JOURNAL_FULL, False),
    ):
        operations = recorded(tmp_path, setting).operations
        unlinks = [n for n, op in enumerate(operations) if op == Unlink(JOURNAL)]
        followed = [operations[n + 1 : n + 2] == (SyncFolder(),) for n in unlinks]
        assert followed[0] is False, "the schema is made before the setting is chosen"
        assert followed[1:] == [unlink_is_synced] * (len(unlinks) - 1)
    operations = recorded(tmp_path, Setting.WAL).operations
    logs = [op.file for op in operations if isinstance(op, Create) and op.name == WAL]
    for log in logs:
        syncs = [n for n, op in enumerate(operations) if op == Sync(log)]
        followed = [isinstance(operations[n + 1], SyncFolder) for n in syncs]
        assert followed == [n == syncs[0] for n in syncs]


def test_a_run_meets_what_it_should(tmp_path: Path) -> None:
    """A run does every kind of call, begins the log anew, folds it into the file, deletes it."""
    recordings = [recorded(tmp_path, seed=seed) for seed in range(4)]
    called = {moment.what for recording in recordings for moment in recording.moments[1:]}
    assert called == {
        *("open", "add", "add_keyed", "add_several", "add_long", "save", "rewrite", "replace"),
        *("clear", "create", "rename", "delete", "batch", "repeat", "reopen", "close"),
    }
    anew = 0
    for recording in recordings:
        operations = recording.operations
        logs = {op.file for op in operations if isinstance(op, Create) and op.name == WAL}
        headers = sum(
            isinstance(op, Write) and op.file in logs and not op.offset for op in operations
        )
        anew += headers - len(logs)
        assert Unlink(WAL) in operations
    assert anew > 20


def test_every_sync_is_a_place_to_fail(tmp_path: Path) -> None:
    """The power fails right before and after each sync, after each answer, and between them."""
    recording = recorded(tmp_path)
    syncs = [n for n, op in enumerate(recording.operations) if isinstance(op, Sync | SyncFolder)]
    points = first_points(recording, random.Random(1), 1_000)
    assert {*syncs, *(n + 1 for n in syncs)} <= set(points)
    assert {moment.done for moment in recording.moments} <= set(points)
    assert len(set(points)) > len(boundaries(recording)) + 100


def test_no_state_counts_twice(tmp_path: Path) -> None:
    """States that a run gives are different, or differ in what was acknowledged by then."""
    recording = recorded(tmp_path)
    states = list(crash_states(recording, random.Random(1), 600))
    different = {(recording.phase(state.point), frozenset(state.files.items())) for state in states}
    assert len(different) == len(states) == 600


def test_a_store_goes_on_from_what_a_failure_left(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """The second life begins with a crash state, and its recovery is failed in as well."""
    monkeypatch.setattr(campaign, "STATES_PER_LIFE", 200)
    first = run_job(Job(11, Setting.WAL, 200), folder)
    both = run_job(Job(11, Setting.WAL, 250), folder)
    assert (first.recordings, both.recordings) == (1, 2)
    assert (first.broken, both.broken) == (0, 0)
    assert both.states == 250
    assert list(folder.iterdir()) == []


def test_whoever_stops_early_leaves_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """After Ctrl-C in the middle no process and no file of the simulator is left."""
    monkeypatch.setattr(campaign, "MEMORY", folder)
    monkeypatch.setattr(campaign, "STATES_PER_JOB", 500)

    def interrupt(_: Tally) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Plan(seed=1, states=1_100, settings=(Setting.WAL_OFF,), processes=2), interrupt)
    assert list(folder.iterdir()) == []
    assert multiprocessing.active_children() == []


# For people


@pytest.mark.parametrize(("setting", "kept"), [("wal", True), ("wal-off", False)])
def test_the_command_says_what_came_of_it(setting: str, kept: bool) -> None:  # noqa: FBT001 - a case
    """It prints one JSON object and fails if a promise was broken."""
    command = [sys.executable, "-P", "-m", "holdfast.testing.powerloss"]
    done = subprocess.run(
        [*command, "--states", "60", "--seed", "1", "--setting", setting, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert (done.returncode, report["kept"]) == (0 if kept else 1, kept)
    assert (report["seed"], report["settings"], report["states"]) == (1, [setting], 60)
    assert (report["lost"] == 0) is kept
