"""How fast histories are read: whole, their ends, and the list of sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.conversations import messages, write_turns
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import BareDecoding

import holdfast

LENGTH = 10_000
LONG = 100_000
LAST = 50
SESSIONS = 10_000
REPETITIONS = 9

SHAPES = {"an entry each": 1, "64 an entry": 64, "a turn an entry": 2}
"""How many messages stand in an entry."""

SINGLE, CHUNKED, TURNS = SHAPES
VIEWS = ("whole", "for a provider")
REACH = {SINGLE: 2.2, CHUNKED: 1.6}


def whole_histories(ground: Ground) -> Generator[Round, None, None]:
    """Measure reading against bare decoding of the same bytes."""
    with ground.folder() as folder:
        path = folder / "bench.db"
        with holdfast.connect(str(path), durability="relaxed") as store:
            for message in messages(LENGTH):
                store.add_messages(SINGLE, [message])
            store.set_chat_history(CHUNKED, messages(LENGTH))
        write_turns(path, TURNS, LENGTH)
        with holdfast.connect(str(path)) as store:
            while True:
                values: dict[str, float] = {}
                details: dict[str, float] = {}
                for shape, view in product(SHAPES, VIEWS):
                    name = _name(view, shape)
                    values[name], found = _against_bare(store, shape, view, ground)
                    details |= {f"{name}: {what}": ms for what, ms in found.items()}
                yield Round(values, details)


def _name(view: str, shape: str) -> str:
    return f"read {LENGTH:,} messages {view}, {shape}"


def ends(ground: Ground) -> Generator[Round, None, None]:
    """Measure reading the last messages of histories of two lengths."""
    with ground.folder() as folder:
        path = folder / "bench.db"
        for length in (LENGTH, LONG):
            write_turns(path, f"{length}", length)
        with holdfast.connect(str(path)) as store:
            while True:
                took: dict[int, list[float]] = {LENGTH: [], LONG: []}
                for _ in range(ground.count(300)):
                    for length, times in took.items():
                        read = partial(store.get_chat_history, f"{length}", LAST)
                        times.append(_seconds(read))
                short, long = (median(times) * 1e3 for times in took.values())
                yield Round(
                    {
                        f"last {LAST} of {LENGTH:,} messages": short,
                        f"last {LAST} of {LONG:,} messages": long / short,
                    },
                    {"ms_at_100000": long},
                )


def lists(ground: Ground) -> Generator[Round, None, None]:
    """Measure listing the newest sessions of many."""
    with ground.folder() as folder:
        _make_sessions(folder / "bench.db")
        with holdfast.connect(str(folder / "bench.db")) as store:
            while True:
                took = [
                    _seconds(lambda: store.list_sessions(LAST)) for _ in range(ground.count(300))
                ]
                yield Round({f"newest {LAST} of {SESSIONS:,} sessions": median(took) * 1e3})


def _against_bare(
    store: holdfast.SessionStore, shape: str, view: str, ground: Ground
) -> tuple[float, dict[str, float]]:
    origin = store.get_chat_history(shape).origin
    assert origin is not None
    bare = BareDecoding(b"\n".join(origin.payloads).split(b"\n"), SHAPES[shape])
    read = store.get_messages if view == "whole" else store.get_chat_history
    alone: list[float] = []
    ours: list[float] = []
    for _ in range(ground.count(REPETITIONS)):
        alone.append(bare.seconds())
        ours.append(_seconds(partial(read, shape)))
    return median(ours) / median(alone), {
        "read_ms": median(ours) * 1e3,
        "bare_ms": median(alone) * 1e3,
    }


def _make_sessions(path: Path) -> None:
    with holdfast.connect(str(path), durability="relaxed") as store:
        for number, message in enumerate(messages(SESSIONS)):
            store.add_messages(f"session-{number}", [message])


def _seconds(read: Callable[[], object]) -> float:
    started = time.perf_counter()
    found = read()
    took = time.perf_counter() - started
    assert found
    return took


MEASUREMENTS = (
    Measurement(
        "read",
        tuple(
            Figure(_name(view, shape), "x bare decoding", Wanted.AT_MOST, target=REACH.get(shape))
            for shape, view in product(SHAPES, VIEWS)
        ),
        whole_histories,
    ),
    Measurement(
        "last",
        (
            Figure(f"last {LAST} of {LENGTH:,} messages", "ms", Wanted.AT_MOST, target=0.1),
            Figure(f"last {LAST} of {LONG:,} messages", "x 10,000", Wanted.AT_MOST, target=1.1),
        ),
        ends,
    ),
    Measurement(
        "list",
        (Figure(f"newest {LAST} of {SESSIONS:,} sessions", "ms", Wanted.AT_MOST, target=0.2),),
        lists,
    ),
)
