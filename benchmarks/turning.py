"""What turns cost: their commits, many streams at once, followers that see an entry or wait."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted

import holdfast
from holdfast.model.write import Write
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.watching import Watcher

STREAMS = 200
CHUNKS_A_SECOND = 50
CHUNK = "some twenty letters "
STREAM_S = 4.0
COMMITS = "commits of an empty turn"
CORES = f"{STREAMS} streams of {CHUNKS_A_SECOND} chunks a second: processor"
RATE = f"{STREAMS} streams of {CHUNKS_A_SECOND} chunks a second: commits"
DELAY = "a follower in another process sees an entry after"
FOLLOWERS = 100
IDLE_S = 4.0
SETTLE_S = 1.5
"""So long after a commit the watcher may still look whether another one becomes visible."""
_IDLE = f"{FOLLOWERS} followers with nothing to read"
WAYS = {True: _IDLE, False: f"{_IDLE}, without file events"}
FOLLOWER = """
import sys, time, holdfast
store = holdfast.connect(sys.argv[1])
print("ready", flush=True)
for entry in store.follow("s", after=int(sys.argv[2])):
    seen = time.monotonic_ns()
    content = entry.messages[0]["content"]
    if content == "end":
        break
    print(seen - int(content), flush=True)
"""


def empty_turns(ground: Ground) -> Generator[Round, None, None]:
    """Count the commits of turns in which nothing is said."""
    count = ground.count(100)
    while True:
        with ground.folder() as folder, holdfast.connect(folder / "bench.db") as store:
            with _counted(store._engine) as commits:
                started = time.perf_counter()
                for number in range(count):
                    with store.turn("s", f"question {number}"):
                        pass
                took = time.perf_counter() - started
            yield Round({COMMITS: commits[0] / count}, {"turns_a_second": count / took})


def streams(ground: Ground) -> Generator[Round, None, None]:
    """Measure one process in which many turns stream at once."""
    seconds = max(1.0, STREAM_S * ground.share)
    while True:
        with ground.folder() as folder:
            cores, rate = asyncio.run(_streamed(folder / "bench.db", seconds))
            yield Round({CORES: cores, RATE: rate})


async def _streamed(path: Path, seconds: float) -> tuple[float, float]:
    """Return how many cores and commits a second the streaming takes, without turns' ends."""
    begin, end = asyncio.Barrier(STREAMS + 1), asyncio.Barrier(STREAMS + 1)

    async def stream(store: holdfast.AsyncSessionStore, number: int) -> None:
        async with store.turn(f"s{number}", "Tell me a story") as turn:
            await begin.wait()
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                await turn.write(CHUNK)
                await asyncio.sleep(1 / CHUNKS_A_SECOND)
            await end.wait()

    async with holdfast.connect_async(path) as store:
        with _counted(store._engine) as commits:
            tasks = [asyncio.create_task(stream(store, number)) for number in range(STREAMS)]
            await begin.wait()
            before = (time.monotonic(), _processor_s(), commits[0])
            await end.wait()
            after = (time.monotonic(), _processor_s(), commits[0])
            await asyncio.gather(*tasks)
    lasted, used, made = (late - early for early, late in zip(before, after, strict=True))
    return used / lasted, made / lasted


def followers(ground: Ground) -> Generator[Round, None, None]:
    """Measure from before an entry is sent until another process has read it."""
    count = ground.count(200)
    with ground.folder() as folder, holdfast.connect(folder / "bench.db") as store:
        while True:
            after = store.add_user_message("s", "begin").revision
            command = [sys.executable, "-c", FOLLOWER, str(folder / "bench.db"), str(after)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                delays: list[float] = []
                for _ in range(count):
                    store.add_user_message("s", str(time.monotonic_ns()))
                    delays.append(int(process.stdout.readline()) / 1e6)
                store.add_user_message("s", "end")
            yield Round({DELAY: median(delays)}, {"longest_ms": max(delays)})


def idle_followers(ground: Ground) -> Generator[Round, None, None]:
    """Measure one process in which many follow sessions of their own, and nobody writes.

    It is a process of its own, since this one shows at the terminal how far it is.
    """
    seconds = max(1.0, IDLE_S * ground.share)
    while True:
        values: dict[str, float] = {}
        for events, name in WAYS.items():
            with ground.folder() as folder, ProcessPoolExecutor(1, get_context("spawn")) as apart:
                path = folder / "bench.db"
                woken, used = apart.submit(_idle, path, seconds, events=events).result()
            values |= {f"{name}: wake-ups": woken, f"{name}: processor": used * 100}
        yield Round(values)


def _idle(path: Path, seconds: float, *, events: bool) -> tuple[float, float]:
    return asyncio.run(_idled(path, seconds, events=events))


async def _idled(path: Path, seconds: float, *, events: bool) -> tuple[float, float]:
    """Return how often a second the process wakes, and how many cores it takes."""
    caught_up = asyncio.Barrier(FOLLOWERS + 1)

    async def follow(store: holdfast.AsyncSessionStore, number: int) -> None:
        async for _ in store.follow(f"s{number}"):
            await caught_up.wait()

    async with holdfast.connect_async(path) as store:
        backend = store._engine.backend
        assert isinstance(backend, SqliteBackend)
        backend._watcher = Watcher(backend._database, events=events)
        for number in range(FOLLOWERS):
            await store.add_user_message(f"s{number}", "hello")
        tasks = [asyncio.create_task(follow(store, number)) for number in range(FOLLOWERS)]
        await caught_up.wait()
        await asyncio.sleep(SETTLE_S)
        before = (time.monotonic(), _processor_s(), _wake_ups())
        await asyncio.sleep(seconds)
        after = (time.monotonic(), _processor_s(), _wake_ups())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    lasted, used, woken = (late - early for early, late in zip(before, after, strict=True))
    return woken / lasted, used / lasted


@contextmanager
def _counted(engine: Engine) -> Iterator[list[int]]:
    """Count the batches that an engine commits."""
    commits = [0]
    commit = engine.backend.commit

    def counting(writes: Sequence[Write]) -> list[Outcome]:
        commits[0] += 1
        return commit(writes)

    engine.backend.commit = counting  # type: ignore[method-assign] # to be counted
    try:
        yield commits
    finally:
        engine.backend.commit = commit  # type: ignore[method-assign] # as it was


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _wake_ups() -> int:
    """Return how often a thread of this process has slept until something woke it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


MEASUREMENTS = (
    Measurement(
        "turns", (Figure(COMMITS, "commits", Wanted.AT_MOST, target=2, strict=True),), empty_turns
    ),
    Measurement(
        "streams",
        (
            Figure(CORES, "cores", Wanted.AT_MOST, target=1),
            Figure(RATE, "a second", Wanted.AT_MOST, target=40),
        ),
        streams,
    ),
    Measurement("follow", (Figure(DELAY, "ms", Wanted.AT_MOST, target=50),), followers),
    Measurement(
        "idle",
        tuple(
            figure
            for name in WAYS.values()
            for figure in (
                Figure(f"{name}: wake-ups", "a second", Wanted.AT_MOST),
                Figure(f"{name}: processor", "% of a core", Wanted.AT_MOST),
            )
        ),
        idle_followers,
    ),
)
