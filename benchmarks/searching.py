"""How fast messages are found, how fast the index is filled, and that appending does not pay."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted

import holdfast

SHORT = 10_000
LONG = 100_000
A_SESSION = 100
WORDS = 65
"""Of about six letters, so a message has 400 bytes or so."""

VOCABULARY = 20_000
RARE, COMMON = 5_000, 3
REPETITIONS = 40
APPENDS = 400

FILL = "messages indexed a second"
PAY = "appending after a search"


def searches(ground: Ground) -> Generator[Round, None, None]:
    """Measure filling the index of a new store, and searches of two stores that are indexed."""
    with ground.folder() as folder:
        texts = _Texts()
        paths = {length: folder / f"{length}.db" for length in (SHORT, ground.count(LONG))}
        for length, path in paths.items():
            _write(path, texts, length)
        short, long = paths.values()
        while True:
            values: dict[str, float] = {FILL: SHORT / _fill(short)}
            details: dict[str, float] = {}
            for path, length in ((short, SHORT), (long, LONG)):
                found = _latencies(path, texts, ground.count(REPETITIONS))
                values |= {f"search {length:,} messages, {what}": ms for what, ms in found.items()}
                details[f"bytes_{length}"] = path.stat().st_size
            values[PAY] = _append_cost(folder, texts, ground.count(APPENDS))
            yield Round(values, details)


class _Texts:
    """Messages with words as people use them: few often, most seldom."""

    def __init__(self) -> None:
        self._chance = random.Random(20_261_124)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        self.words = [
            "".join(self._chance.choices(letters, k=self._chance.randint(2, 9))) + "a"
            for _ in range(VOCABULARY)
        ]
        self._weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))

    def message(self) -> str:
        """Return the text of one message."""
        return " ".join(self._chance.choices(self.words, cum_weights=self._weights, k=WORDS))


def _write(path: Path, texts: _Texts, count: int) -> None:
    with holdfast.connect(path, durability="relaxed") as store:
        for session in range(count // A_SESSION):
            for _ in range(A_SESSION // 2):
                turn = [
                    {"role": role, "content": texts.message()} for role in ("user", "assistant")
                ]
                store.add_messages(f"session-{session}", turn)


def _fill(path: Path) -> float:
    """Return how long the first search takes."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM searched_sessions")
    with holdfast.connect(path) as store:
        return _seconds(store, "none")


def _latencies(path: Path, texts: _Texts, repetitions: int) -> dict[str, float]:
    rare, common = texts.words[RARE], texts.words[COMMON]
    queries = {
        "a rare word": rare,
        "a common word": common,
        "two common words": f"{common} {texts.words[COMMON + 5]}",
        "a beginning": f"{rare[:4]}*",
    }
    with holdfast.connect(path, timeout=600) as store:
        store.search("none")
        return {
            what: median(_seconds(store, query) for _ in range(repetitions)) * 1e3
            for what, query in queries.items()
        }


def _append_cost(folder: Path, texts: _Texts, count: int) -> float:
    """Return what an append takes in a store that was searched, against one that never was."""
    took: dict[bool, list[float]] = {True: [], False: []}
    paths = {searched: folder / f"append-{searched}.db" for searched in took}
    stores = {searched: holdfast.connect(path) for searched, path in paths.items()}
    for store in stores.values():
        store.add_messages("s", [{"role": "user", "content": texts.message()} for _ in range(500)])
    stores[True].search("none")
    for _ in range(count):
        text = texts.message()
        for searched, store in stores.items():
            started = time.perf_counter()
            store.add_user_message("s", text)
            took[searched].append(time.perf_counter() - started)
    for searched, store in stores.items():
        store.close()
        for file in folder.glob(f"{paths[searched].name}*"):
            file.unlink()
    return median(took[True]) / median(took[False])


def _seconds(store: holdfast.SessionStore, query: str) -> float:
    started = time.perf_counter()
    store.search(query)
    return time.perf_counter() - started


_QUERIES = ("a rare word", "a common word", "two common words", "a beginning")

MEASUREMENTS = (
    Measurement(
        "search",
        (
            Figure(FILL, "a second"),
            *(
                Figure(f"search {length:,} messages, {what}", "ms", Wanted.AT_MOST)
                for length in (SHORT, LONG)
                for what in _QUERIES
            ),
            Figure(PAY, "x never searched", Wanted.AT_MOST, target=1.05),
        ),
        searches,
    ),
)
