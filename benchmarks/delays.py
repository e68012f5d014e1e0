"""How soon another process learns what was committed to a PostgreSQL store: entries, interrupts."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from statistics import median

from benchmarks.figures import Ground
from benchmarks.turning import FOLLOWER

import holdfast

FOLLOWED = "PostgreSQL, a follower in another process sees an entry after"
INTERRUPTED = "PostgreSQL, a streaming turn in another process is interrupted after"
FLUSH_S = 0.1
TURN = """
import sys, time, holdfast
store = holdfast.connect(sys.argv[1])
for number in range(int(sys.argv[2])):
    with store.turn("t", "question") as turn:
        print("ready", flush=True)
        while not turn.interrupted:
            turn.write("word ")
            time.sleep(0.002)
        print(time.monotonic_ns(), flush=True)
"""


def measured(url: str, ground: Ground) -> dict[str, float]:
    """Return the medians, in milliseconds."""
    with holdfast.connect(url) as store:
        return {
            FOLLOWED: _followed(store, url, ground.count(100)),
            INTERRUPTED: _interrupted(store, url, ground.count(20)),
        }


def _followed(store: holdfast.SessionStore, url: str, count: int) -> float:
    after = store.add_user_message("s", "begin").revision
    delays: list[float] = []
    with _process(FOLLOWER, url, str(after)) as process:
        _line(process)
        for _ in range(count):
            store.add_user_message("s", str(time.monotonic_ns()))
            delays.append(int(_line(process)) / 1e6)
        store.add_user_message("s", "end")
    return median(delays)


def _interrupted(store: holdfast.SessionStore, url: str, count: int) -> float:
    delays: list[float] = []
    chance = random.Random(count)
    with _process(TURN, url, str(count)) as process:
        for _ in range(count):
            _line(process)
            time.sleep(chance.uniform(0, FLUSH_S))  # somewhere between two flushes
            before = time.monotonic_ns()
            assert store.interrupt("t")
            delays.append((int(_line(process)) - before) / 1e6)
    return median(delays)


def _process(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
