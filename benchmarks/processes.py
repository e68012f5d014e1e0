"""Four processes of sixteen threads each on one file: how many turns, and how long one may wait."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.conversations import turns
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import Raw

import holdfast

PROCESSES = 4
THREADS = 16
SECONDS = 1.5
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process does."""

    path: str
    sessions: tuple[str, ...]
    seconds: float


def own_sessions(ground: Ground) -> Generator[Round, None, None]:
    """Measure threads that have a session each."""
    sessions = [
        tuple(f"session-{process}-{thread}" for thread in range(THREADS))
        for process in range(PROCESSES)
    ]
    return _rounds(ground, sessions, "own sessions")


def shared_session(ground: Ground) -> Generator[Round, None, None]:
    """Measure threads that all write to one session."""
    return _rounds(ground, [("session",) * THREADS] * PROCESSES, "one shared session")


def _rounds(
    ground: Ground, sessions: list[tuple[str, ...]], title: str
) -> Generator[Round, None, None]:
    raw_count = ground.count(1_000)
    while True:
        with ground.folder() as folder, Raw(folder / "raw") as raw:
            path = folder / "bench.db"
            with holdfast.connect(str(path)) as store:
                for session_id in sorted({name for names in sessions for name in names}):
                    store.add_messages(session_id, next(turns()))
            raw.warm_up(100)
            raw.measure(raw_count)
            waits = _storm(path, sessions, max(0.4, SECONDS * ground.share))
            raw.measure(raw_count)
        yield _summed(waits, raw, title)


def _storm(path: Path, sessions: list[tuple[str, ...]], seconds: float) -> list[list[float]]:
    """Run the processes together; return each one's waits, after how long it really took."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(len(sessions))
    found: Queue[list[float]] = context.Queue()
    workers = [
        context.Process(target=_work, args=(Assignment(str(path), names, seconds), gate, found))
        for names in sessions
    ]
    for worker in workers:
        worker.start()
    try:
        waits = [found.get(timeout=START_S + seconds) for _ in workers]
    finally:
        for worker in workers:
            worker.join(START_S)
    return waits


def _work(assignment: Assignment, gate: Barrier, found: Queue[list[float]]) -> None:
    """Be one process: open, warm up, wait for the others, write until the time is over."""
    waits: list[list[float]] = [[] for _ in assignment.sessions]
    warm, ready = (threading.Barrier(len(waits) + 1) for _ in range(2))
    with holdfast.connect(assignment.path) as store:

        def run(session_id: str, mine: list[float]) -> None:
            supply = turns()
            for turn in islice(supply, 3):
                store.add_messages(session_id, turn)
            warm.wait(START_S)
            ready.wait(START_S)
            before = time.perf_counter()
            until = before + assignment.seconds
            while before < until:
                store.add_messages(session_id, next(supply))
                after = time.perf_counter()
                mine.append(after - before)
                before = after

        with ThreadPoolExecutor(len(waits)) as pool:
            crowd = [
                pool.submit(run, *pair) for pair in zip(assignment.sessions, waits, strict=True)
            ]
            warm.wait(START_S)
            gate.wait(START_S)
            ready.wait(START_S)
            for done in crowd:
                done.result()
    found.put([assignment.seconds, *(wait for mine in waits for wait in mine)])


def _summed(found: list[list[float]], raw: Raw, title: str) -> Round:
    seconds = found[0][0]
    waits = sorted(wait for process in found for wait in process[1:])
    rate = len(waits) / seconds
    shares = [len(process) - 1 for process in found]
    return Round(
        {
            f"4 processes x 16 threads, {title}": rate / raw.rate,
            f"longest wait, {title}": waits[-1] * 1e3,
        },
        {
            "turns_a_second": rate,
            "raw_turns_a_second": raw.rate,
            "raw_longest_ms": raw.longest_ms,
            "median_wait_ms": waits[len(waits) // 2] * 1e3,
            "p99_wait_ms": waits[int(len(waits) * 0.99)] * 1e3,
            "p999_wait_ms": waits[int(len(waits) * 0.999)] * 1e3,
            "fewest_turns_of_a_process": min(shares),
            "most_turns_of_a_process": max(shares),
        },
    )


def _figures(title: str) -> tuple[Figure, ...]:
    return (
        Figure(f"4 processes x 16 threads, {title}", "x raw", target=1.5),
        Figure(f"longest wait, {title}", "ms", Wanted.AT_MOST, target=20, strict=True),
    )


MEASUREMENTS = (
    Measurement("processes", _figures("own sessions"), own_sessions),
    Measurement("processes-shared", _figures("one shared session"), shared_session),
)
