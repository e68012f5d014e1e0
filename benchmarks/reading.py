"""How fast histories are read: whole, their ends, and the list of sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
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

SINGLE = "read 10,000 messages, an entry each"
CHUNKED = "read 10,000 messages, 64 an entry"
TURNS = "read 10,000 messages, a turn an entry"


def whole_histories(ground: Ground) -> Generator[Round, None, None]:
    """Measure reading against bare decoding of the payloads that are read."""
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
                for name in (SINGLE, CHUNKED, TURNS):
                    ratio, in_detail = _against_bare(store, name, ground)
                    values[name] = ratio
                    details |= {f"{name}: {what}": ms for what, ms in in_detail.items()}
                yield Round(values, details)


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
    store: holdfast.SessionStore, name: str, ground: Ground
) -> tuple[float, dict[str, float]]:
    origin = store.get_chat_history(name).origin
    assert origin is not None
    bare = BareDecoding(origin.payloads)
    together: list[float] = []
    singly: list[float] = []
    read: list[float] = []
    for _ in range(ground.count(REPETITIONS)):
        together.append(bare.together())
        read.append(_seconds(lambda: store.get_chat_history(name)))
        singly.append(bare.singly())
    ratio = median(read) / median(together)
    return ratio, {
        "read_ms": median(read) * 1e3,
        "bare_ms": median(together) * 1e3,
        "bare_payload_by_payload_ms": median(singly) * 1e3,
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
        (
            Figure(SINGLE, "x bare decoding", Wanted.AT_MOST, later=2.2),
            Figure(CHUNKED, "x bare decoding", Wanted.AT_MOST, later=1.6),
            Figure(TURNS, "x bare decoding", Wanted.AT_MOST),
        ),
        whole_histories,
    ),
    Measurement(
        "last",
        (
            Figure(f"last {LAST} of {LENGTH:,} messages", "ms", Wanted.AT_MOST, later=0.1),
            Figure(f"last {LAST} of {LONG:,} messages", "x 10,000", Wanted.AT_MOST, later=1.1),
        ),
        ends,
    ),
    Measurement(
        "list",
        (Figure(f"newest {LAST} of {SESSIONS:,} sessions", "ms", Wanted.AT_MOST, target=0.2),),
        lists,
    ),
)
