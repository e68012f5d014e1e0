"""What turns cost: their commits, many streams at once, and how soon a follower sees an entry."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted

import holdfast
from holdfast.model.write import Write
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine

STREAMS = 200
CHUNKS_A_SECOND = 50
CHUNK = "some twenty letters "
STREAM_S = 4.0
COMMITS = "commits of an empty turn"
CORES = f"{STREAMS} streams of {CHUNKS_A_SECOND} chunks a second: processor"
RATE = f"{STREAMS} streams of {CHUNKS_A_SECOND} chunks a second: commits"
DELAY = "a follower in another process sees an entry after"
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
)
