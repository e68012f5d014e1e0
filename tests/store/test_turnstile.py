"""The turnstile of two file locks between processes."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import holdfast
from holdfast.store.sqlite.turnstile import ALONE_S, LOCK_SUFFIXES, Turnstile


def test_one_at_a_time(tmp_path: Path) -> None:
    """While one is in, another does not get in without waiting, and waiting ends when it leaves."""
    one, other = Turnstile(tmp_path / "a.db"), Turnstile(tmp_path / "a.db")
    assert one.enter(wait=False)
    assert not other.enter(wait=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: other.enter(wait=True))
        assert not waiting.done()
        one.leave()
        assert waiting.result(timeout=10)
    other.leave()
    one.close()
    other.close()


def test_nobody_overtakes_whoever_waits(tmp_path: Path) -> None:
    """Who comes while another waits does not get in before it, however lucky its moment."""
    inside, waiting, late = (Turnstile(tmp_path / "a.db") for _ in range(3))
    assert inside.enter(wait=False)
    got_in = threading.Event()

    def wait_for_turn() -> None:
        assert waiting.enter(wait=True)
        got_in.set()

    thread = threading.Thread(target=wait_for_turn)
    thread.start()
    queue = (tmp_path / f"a.db{LOCK_SUFFIXES[0]}").open("rb")
    while True:  # until the waiting one stands in the first lock
        try:
            fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            break
        fcntl.flock(queue, fcntl.LOCK_UN)
    queue.close()
    assert not late.enter(wait=False)
    inside.leave()
    assert got_in.wait(10)
    thread.join()
    assert not late.enter(wait=False)
    waiting.leave()
    assert late.enter(wait=False)
    for turnstile in (inside, waiting, late):
        turnstile.close()


def test_closing_lets_others_in(tmp_path: Path) -> None:
    """A process that goes takes its locks with it."""
    one, other = Turnstile(tmp_path / "a.db"), Turnstile(tmp_path / "a.db")
    assert one.enter(wait=False)
    one.close()
    assert other.enter(wait=False)
    other.close()


def test_without_file_locks_sqlites_own_waiting_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that has no locks the store works all the same."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = str(tmp_path / "a.db")
    with holdfast.connect(path) as one, holdfast.connect(path) as other:
        for store in (one, other) * 10:
            store.add_user_message("a", "hello")
        assert len(one.get_chat_history("a")) == 20


def test_a_folder_without_lock_files_is_no_obstacle(tmp_path: Path) -> None:
    """Lock files that cannot be made are done without."""
    for suffix in LOCK_SUFFIXES:
        (tmp_path / f"a.db{suffix}").mkdir()
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        store.add_user_message("a", "hello")
        assert len(store.get_chat_history("a")) == 1


def test_whoever_is_alone_passes_without_asking_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who saw nobody for a second locks nothing for two milliseconds, then asks again."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    one, other = Turnstile(tmp_path / "a.db"), Turnstile(tmp_path / "a.db")

    def others_may_enter() -> bool:
        entered = other.enter(wait=False)
        other.leave()
        return entered

    assert one.enter(wait=False)
    assert not others_may_enter(), "a newcomer goes through it"
    one.leave()
    clock[0] += ALONE_S
    assert one.enter(wait=False)
    assert not others_may_enter(), "the first time that it is alone"
    one.leave()
    clock[0] += 0.001
    assert one.enter(wait=False)
    assert others_may_enter(), "it has been through a moment ago, and locks nothing"
    one.leave()
    clock[0] += 0.002
    assert one.enter(wait=False)
    assert not others_may_enter(), "time to ask again"
    one.leave()
    one.note_others()
    assert one.enter(wait=False)
    assert not others_may_enter(), "somebody else writes too"
    one.leave()
    clock[0] += ALONE_S
    assert one.enter(wait=True)
    assert not others_may_enter(), "whoever waits its turn is not alone"
    one.leave()
    assert one.enter(wait=False)
    assert not others_may_enter(), "nor is it right afterwards"
    one.leave()
    for turnstile in (one, other):
        turnstile.close()


def test_whoever_sees_another_write_is_not_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that finds somebody else's commit goes through the turnstile from then on."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    path = str(tmp_path / "a.db")
    with holdfast.connect(path) as one, holdfast.connect(path) as other:
        turnstile = one._shell._engine.backend._turnstile  # type: ignore[attr-defined]
        one.add_user_message("s", "first")
        clock[0] += ALONE_S
        one.add_user_message("s", "alone")
        assert turnstile._passes_until > clock[0]
        other.add_user_message("s", "somebody else")
        one.add_user_message("s", "not alone any more")
        assert turnstile._passes_until <= clock[0]


NEWCOMER = """
import sys, holdfast
with holdfast.connect(sys.argv[1]) as store:
    for number in range(20):
        store.add_user_message("newcomer", str(number))
"""


def test_a_newcomer_is_let_in_by_whoever_was_alone(tmp_path: Path) -> None:
    """A process that writes without a pause makes room for another that begins to write."""
    path = str(tmp_path / "a.db")
    with holdfast.connect(path) as store:
        ends = time.monotonic() + ALONE_S
        while time.monotonic() < ends:
            store.add_user_message("busy", "I am alone.")
        with subprocess.Popen([sys.executable, "-c", NEWCOMER, path]) as newcomer:
            while newcomer.poll() is None:
                store.add_user_message("busy", "I do not stop.")
        assert newcomer.returncode == 0
        assert len(store.get_chat_history("newcomer")) == 20
