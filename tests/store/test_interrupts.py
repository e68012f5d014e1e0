"""Ctrl-C at any moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import holdfast

SCRIPT = """
    import random, signal, sys
    import holdfast

    class Hit(BaseException):
        pass

    armed = False

    def strike(*_):
        if armed:
            raise Hit

    signal.signal(signal.SIGALRM, strike)
    chance = random.Random(int(sys.argv[2]))
    acknowledged, hits, errors = set(), 0, []
    store = holdfast.connect(sys.argv[1], timeout=5)
    store.add_user_message("a", "first")
    for number in range(600):
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 4e-4))
            store.add_user_message("a", str(number))
            acknowledged.add(str(number))
            armed = False
        except Hit:
            armed = False
            hits += 1
        except holdfast.errors.HoldfastError as error:
            armed = False
            errors.append(str(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
    found = [m["content"] for m in store.get_chat_history("a")]
    assert len(found) == len(set(found)), "doubled"
    assert acknowledged <= set(found), "lost"
    assert not errors, errors
    store.add_user_message("a", "after")
    other = holdfast.connect(sys.argv[1], timeout=2)
    other.add_user_message("a", "from another store")
    assert other.verify()
    other.close()
    store.close()
    print(hits)
"""


@pytest.mark.parametrize("seed", range(3))
def test_an_interrupt_leaves_a_store_that_works(tmp_path: Path, seed: int) -> None:
    """Nothing stays locked or open, what was acknowledged is there, and nothing is there twice."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "a.db"), str(seed)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize("name", ["holdfast-news", "holdfast-committer"])
def test_an_interrupt_while_a_thread_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Ctrl-C while a store's thread is being started leaves one, and a store that closes."""
    start, hits = threading.Thread.start, 0

    def interrupted(thread: threading.Thread) -> None:
        nonlocal hits
        start(thread)
        if thread.name == name:
            hits += 1
            if hits == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        store.add_user_message("a", "first")
        with pytest.raises(KeyboardInterrupt):
            _follow_a_turn(store)
        _follow_a_turn(store)
        assert sum(one.name == name for one in threading.enumerate()) <= 1
    assert hits > 0


def _follow_a_turn(store: holdfast.SessionStore) -> None:
    with store.turn("a", "One?") as turn:
        turn.write("yes")
        next(entry for entry in store.follow("a") if entry.kind == "delta")
