"""A history rewritten in a loop while other processes read it: what they see, and how fast."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.conversations import messages
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted

import holdfast

LENGTH = 1_000
READERS = 2
SECONDS = 1.5
START_S = 60.0

FAULTY = "faulty reads while 1,000 messages are rewritten"
RATE = "rewriting 1,000 messages under 2 readers"


@dataclass(frozen=True, slots=True)
class Sight:
    """What one reader saw: how many histories, and how many that were never committed."""

    reads: int
    faulty: int


def rewriting(ground: Ground) -> Generator[Round, None, None]:
    """Rewrite in this process while readers in others look at every history they get."""
    while True:
        with ground.folder() as folder:
            yield _rewrite_under_readers(folder / "bench.db", max(0.4, SECONDS * ground.share))


def is_faulty(history: list[dict[str, object]]) -> bool:
    """Say whether this is not one of the histories that were written: each has one mark."""
    return len(history) != LENGTH or len({message["name"] for message in history}) != 1


def _rewrite_under_readers(path: Path, seconds: float) -> Round:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    seen: Queue[Sight] = context.Queue()
    with holdfast.connect(str(path)) as store:
        store.set_chat_history("session", _marked(0))
        readers = [
            context.Process(target=_read, args=(str(path), stop, seen)) for _ in range(READERS)
        ]
        for reader in readers:
            reader.start()
        try:
            for _ in readers:
                seen.get(timeout=START_S)  # each says that it has begun
            rewrites, took = 0, 0.0
            while took < seconds:
                rewrites += 1
                history = _marked(rewrites)
                started = time.perf_counter()
                store.set_chat_history("session", history)
                took += time.perf_counter() - started
        finally:
            stop.set()
        sights = [seen.get(timeout=START_S) for _ in readers]
        for reader in readers:
            reader.join(START_S)
    reads = sum(sight.reads for sight in sights)
    return Round(
        {FAULTY: sum(sight.faulty for sight in sights), RATE: rewrites / took},
        {"reads": reads, "rewrites": rewrites},
    )


def _marked(mark: int) -> list[dict[str, object]]:
    return [{**message, "name": f"mark-{mark}"} for message in messages(LENGTH)]


def _read(path: str, stop: Event, seen: Queue[Sight]) -> None:
    reads = faulty = 0
    with holdfast.connect(path) as store:
        faulty += is_faulty(store.get_chat_history("session"))
        seen.put(Sight(1, faulty))
        while not stop.is_set():
            reads += 1
            faulty += is_faulty(store.get_chat_history("session"))
    seen.put(Sight(reads, faulty))


MEASUREMENTS = (
    Measurement(
        "rewrite",
        (
            Figure(FAULTY, "reads", Wanted.AT_MOST, target=0, strict=True),
            Figure(RATE, "a second"),
        ),
        rewriting,
    ),
)
