"""Ctrl-C at any moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

import holdfast
from holdfast.store.postgres import writer
from holdfast.store.postgres.transaction import Transaction
from tests.stores import is_postgres

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
    store = holdfast.connect(sys.argv[1], timeout=30)

    def write(number):
        store.add_user_message("a", str(number))
        acknowledged.add(str(number))

    window_s = 4e-4  # it follows the machine: about every second write is hit
    for number in range(int(sys.argv[3])):
        store.add_user_message("c", "warm")  # what was interrupted is closed: it opens again here
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, window_s))
            if number % 3 == 0:
                store.set_chat_history("b", [{"role": "user", "content": str(number)}])
            elif number % 7 == 0:
                store.get_chat_history("a")
            else:
                write(number)
            armed = False
            window_s /= 1.1
        except Hit:
            armed = False
            hits += 1
            window_s *= 1.1
        except holdfast.errors.HoldfastError as error:
            armed = False
            errors.append(str(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
    found = [m["content"] for m in store.get_chat_history("a")]
    assert len(found) == len(set(found)), "doubled"
    assert acknowledged <= set(found), "lost"
    assert not errors, errors
    store.add_user_message("a", "after")
    other = holdfast.connect(sys.argv[1], timeout=30)
    other.add_user_message("a", "from another store")
    assert other.verify()
    other.close()
    store.close()
    print(hits, len(acknowledged))
"""


@pytest.mark.parametrize("seed", range(3))
def test_an_interrupt_leaves_a_store_that_works(url: str, seed: int) -> None:
    """Nothing stays locked or open, what was acknowledged is there, and nothing is there twice."""
    count = 150 if is_postgres(url) else 300
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), url, str(seed), str(count)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    hits, acknowledged = map(int, done.stdout.split())
    assert hits > count / 4
    assert acknowledged > count / 8


def test_an_interrupt_right_after_a_pipeline_began(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is acknowledged after Ctrl-C at the start of a transaction is committed."""

    class Interrupted(Transaction):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            raise KeyboardInterrupt

    with holdfast.connect(schema) as store, holdfast.connect(schema) as other:
        store.add_user_message("a", "first")
        with monkeypatch.context() as patch:
            patch.setattr(writer, "Transaction", Interrupted)
            with pytest.raises(KeyboardInterrupt) as kept:  # and with it, the pipeline
                store.set_chat_history("a", [{"role": "user", "content": "second"}])
        store.add_user_message("a", "third")
        assert [m["content"] for m in other.get_chat_history("a")] == ["first", "third"]
        del kept


@pytest.mark.parametrize("name", ["holdfast-news", "holdfast-committer"])
def test_an_interrupt_while_a_thread_starts(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str
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
    with holdfast.connect(url) as store:
        store.add_user_message("a", "first")
        with pytest.raises(KeyboardInterrupt):
            _follow_a_turn(store)
        _follow_a_turn(store)
        assert sum(one.name == name for one in threading.enumerate()) <= 1
    assert hits > 0


def test_an_interrupt_before_the_committer_starts(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the thread that commits is there leaves a store that still writes."""

    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    with holdfast.connect(url, timeout=5) as store:
        queued = store._writing.add("a", [{"role": "user", "content": "queued"}], path="{}")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store._shell._engine.commit_together([queued], 5)
        store.add_user_message("a", "next")
        assert [m["content"] for m in store.get_chat_history("a")] == ["next"]


def _follow_a_turn(store: holdfast.SessionStore) -> None:
    with store.turn("a", "One?") as turn:
        turn.write("yes")
        next(entry for entry in store.follow("a") if entry.kind == "delta")
