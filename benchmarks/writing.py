"""How fast turns become durable: one caller, threads, tasks, and long histories."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.conversations import Turn, turns, write_turns
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import Raw

import holdfast

SLICES = 4
"""A round alternates between the limit and Holdfast so often, so that both see the same disk."""

WARM_UP = 600
"""Turns before a round is measured: enough to fill and fold the write-ahead log once."""

START_S = 60.0
OWN, SHARED = "session-{}", "session"
SHAPES = {OWN: "own sessions", SHARED: "one shared session"}
LENGTHS = (0, 10_000, 100_000)

Sync = holdfast.SessionStore
Async = holdfast.AsyncSessionStore


def one_caller(ground: Ground) -> Generator[Round, None, None]:
    """Measure one thread that adds a turn at a time."""
    count = ground.count(400)
    while True:
        with (
            ground.folder() as folder,
            Raw(folder / "raw") as raw,
            holdfast.connect(str(folder / "bench.db")) as store,
        ):
            supply = turns()
            _add(store, "session", list(islice(supply, WARM_UP)))
            raw.warm_up(WARM_UP)
            took = 0.0
            for _ in range(SLICES):
                raw.measure(count)
                took += _add(store, "session", list(islice(supply, count)))
            yield _against(raw, "one caller", SLICES * count / took)


def threads(ground: Ground, session: str) -> Generator[Round, None, None]:
    """Measure 64 threads; `session` names one that all share, or one for each with its number."""
    callers, count, raw_count = 64, ground.count(40), ground.count(300)
    while True:
        with (
            ground.folder() as folder,
            Raw(folder / "raw") as raw,
            holdfast.connect(str(folder / "bench.db")) as store,
        ):
            raw.warm_up(WARM_UP)
            sessions = [session.format(number) for number in range(callers)]
            _add_from_threads(store, sessions, 4)
            took = 0.0
            for _ in range(SLICES):
                raw.measure(raw_count)
                took += _add_from_threads(store, sessions, count)
            name = f"{callers} threads, {SHAPES[session]}"
            yield _against(raw, name, SLICES * callers * count / took)


def tasks(
    ground: Ground, session: str, callers: int, per_caller: int
) -> Generator[Round, None, None]:
    """Measure tasks, in sessions as for threads."""
    count, raw_count = ground.count(per_caller), ground.count(300)
    sessions = [session.format(number) for number in range(callers)]
    while True:
        with ground.folder() as folder, Raw(folder / "raw") as raw:
            raw.warm_up(WARM_UP)
            took = asyncio.run(_add_in_slices(folder, raw, sessions, (count, raw_count)))
            name = f"{callers} tasks, {SHAPES[session]}"
            yield _against(raw, name, SLICES * callers * count / took)


def long_histories(ground: Ground) -> Generator[Round, None, None]:
    """Measure appends to histories of different lengths, each in a file of its own."""
    count = ground.count(150)
    with ground.folder() as kept:
        for length in LENGTHS:
            write_turns(kept / f"{length}.db", "session", length)
        while True:
            with ground.folder() as folder:
                yield _long_histories_round(kept, folder, count)


def _long_histories_round(kept: Path, folder: Path, count: int) -> Round:
    stores: dict[int, Sync] = {}
    took = dict.fromkeys(LENGTHS, 0.0)
    try:
        for length in LENGTHS:
            _copy(kept / f"{length}.db", folder / f"{length}.db")
            stores[length] = holdfast.connect(str(folder / f"{length}.db"))
        supply = turns()
        for store in stores.values():
            # Enough to fill and fold the write-ahead log once: its first filling costs more.
            _add(store, "session", list(islice(supply, 400)))
        for _ in range(2 * SLICES):
            for length, store in stores.items():
                took[length] += _add(store, "session", list(islice(supply, count)))
    finally:
        for store in stores.values():
            store.close()
    empty = took[0]
    total = 2 * SLICES * count
    return Round(
        {f"append at {length:,} messages": took[length] / empty for length in LENGTHS[1:]},
        {f"turns_a_second_at_{length}": total / seconds for length, seconds in took.items()},
    )


def _add(store: Sync, session_id: str, work: list[Turn]) -> float:
    started = time.perf_counter()
    for turn in work:
        store.add_messages(session_id, turn)
    return time.perf_counter() - started


def _add_from_threads(store: Sync, sessions: list[str], count: int) -> float:
    """Return the seconds from the moment all threads are there until the last one is done."""
    supply = turns()
    gate = threading.Barrier(len(sessions) + 1)

    def run(session_id: str, work: list[Turn]) -> None:
        gate.wait(START_S)
        _add(store, session_id, work)

    with ThreadPoolExecutor(len(sessions)) as pool:
        crowd = [pool.submit(run, name, list(islice(supply, count))) for name in sessions]
        gate.wait(START_S)
        started = time.perf_counter()
        for done in crowd:
            done.result()
        return time.perf_counter() - started


async def _add_in_slices(
    folder: Path, raw: Raw, sessions: list[str], counts: tuple[int, int]
) -> float:
    count, raw_count = counts
    took = 0.0
    async with holdfast.connect_async(str(folder / "bench.db")) as store:
        await _add_from_tasks(store, sessions, 4)
        for _ in range(SLICES):
            raw.measure(raw_count)
            took += await _add_from_tasks(store, sessions, count)
    return took


async def _add_from_tasks(store: Async, sessions: list[str], count: int) -> float:
    supply = turns()

    async def run(session_id: str, work: list[Turn]) -> None:
        for turn in work:
            await store.add_messages(session_id, turn)

    crowd = [run(name, list(islice(supply, count))) for name in sessions]
    started = time.perf_counter()
    await asyncio.gather(*crowd)
    return time.perf_counter() - started


def _against(raw: Raw, name: str, rate: float) -> Round:
    return Round(
        {name: rate / raw.rate},
        {
            "turns_a_second": rate,
            "raw_turns_a_second": raw.rate,
            "raw_longest_ms": raw.longest_ms,
        },
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole to the disk, so that its writing does not go on while we measure."""
    shutil.copyfile(source, target)
    file = os.open(target, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _measurement(
    name: str,
    title: str,
    rounds: Callable[[Ground, str], Generator[Round, None, None]],
    *,
    target: float | None = None,
) -> Measurement:
    """Return a measurement whose every round is made with both shapes of sessions."""

    def both(ground: Ground) -> Generator[Round, None, None]:
        with closing(rounds(ground, OWN)) as own, closing(rounds(ground, SHARED)) as shared:
            for one, other in zip(own, shared, strict=True):
                details = dict(one.details)
                details |= {f"shared_{what}": n for what, n in other.details.items()}
                yield Round({**one.values, **other.values}, details)

    figures = tuple(
        Figure(f"{title}, {shape}", "x raw", target=target) for shape in SHAPES.values()
    )
    return Measurement(name, figures, both)


MEASUREMENTS = (
    Measurement("one-caller", (Figure("one caller", "x raw", target=0.75),), one_caller),
    _measurement("threads", "64 threads", threads, target=2.4),
    _measurement("tasks-64", "64 tasks", partial(tasks, callers=64, per_caller=60), target=5),
    _measurement("tasks-512", "512 tasks", partial(tasks, callers=512, per_caller=12), target=4.0),
    Measurement(
        "long-histories",
        tuple(
            Figure(f"append at {length:,} messages", "x empty history", Wanted.AT_MOST, target=1.05)
            for length in LENGTHS[1:]
        ),
        long_histories,
    ),
)
