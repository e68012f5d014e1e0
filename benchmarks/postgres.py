"""Holdfast on PostgreSQL beside other stores on the same server, round by round.

The server comes from the wheel and has its default settings: it syncs. Every store has a database
of its own there and keeps its connections over all rounds; sessions are new in each. The limit is
measured before and after each store: rows of the same bytes, inserted and committed one by one on
one connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from statistics import median

from benchmarks import delays
from benchmarks.contender import Contender, Entry
from benchmarks.conversations import DIFFERENT_TURNS, turns
from benchmarks.crew import ROOT
from benchmarks.environments import ENVIRONMENTS
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import RawRows
from benchmarks.peers.protocol import TASKS, THREADS

from holdfast.testing.postgres import Server

NAME = "postgres"
FOLDER = Path(__file__).parent / "peers"
PEERS = tuple(
    Entry(f"{name}_postgres", f"benchmarks.peers.{name}_postgres", FOLDER / f"{name}_postgres.txt")
    for name in ("langgraph", "openai_agents", "agno")
)
HOLDFAST = Entry("holdfast_postgres", "benchmarks.peers.holdfast_postgres", None)

LEVELS = (1, 8, 64)
LENGTH = 10_000
SLICES = 2
SLICE_S = 0.5
RAW_TURNS = 300
MOST_TURNS = 40_000
SETTINGS = ("shared_buffers", "max_wal_size", "wal_sync_method")

OURS = {
    f"PostgreSQL, {callers} {kind}": f"{kind}_{callers}"
    for callers in LEVELS[1:]
    for kind in (THREADS, TASKS)
}
ONE = "PostgreSQL, one caller"
AHEAD = {callers: f"PostgreSQL, {callers} callers, ahead of every peer" for callers in LEVELS}
AHEAD[1] = f"{ONE}, ahead of every peer"
TARGETS = {1: 5.0, 8: 5.0, 64: 15.0}
READING = f"PostgreSQL, reading {LENGTH:,} messages, faster than every peer"


class Competition:
    """A run on one server: what `rounds` finds out is kept in `contenders`."""

    def __init__(
        self,
        entries: Sequence[Entry] = PEERS,
        *,
        environments: Path = ENVIRONMENTS,
        search: tuple[Path, ...] = (ROOT,),
        say: Callable[[str], object] = print,
    ) -> None:
        self.contenders = [Contender(entry) for entry in (HOLDFAST, *entries)]
        self.server = ""
        self._environments = environments
        self._search = search
        self._say = say

    @property
    def failures(self) -> dict[str, str]:
        """Who failed, and how."""
        return {each.title: each.failure for each in self.contenders if each.failure is not None}

    @property
    def measurement(self) -> Measurement:
        """What stands among the other figures."""
        return Measurement(
            NAME,
            (
                Figure(ONE, "x raw rows", target=0.5),
                *(
                    Figure(name, "x raw rows", target=4 if name.split()[1] == "64" else None)
                    for name in OURS
                ),
                *(Figure(name, "x", target=TARGETS[callers]) for callers, name in AHEAD.items()),
                Figure(READING, "x", target=1),
                Figure(delays.FOLLOWED, "ms", Wanted.AT_MOST, target=50),
                Figure(delays.INTERRUPTED, "ms", Wanted.AT_MOST, target=50),
            ),
            self.rounds,
        )

    def rounds(self, ground: Ground) -> Generator[Round, None, None]:
        """Start the server, install and prepare everybody, then measure them by turns."""
        with ExitStack() as stack:
            for each in self.contenders:
                stack.callback(each.end)
            kept = stack.enter_context(ground.folder()).resolve()
            server = stack.enter_context(Server.start(kept / "server"))
            self.server = _described(server)
            raw = stack.enter_context(closing(RawRows(server.create_database("raw"))))
            self._prepare(server, kept, ground)
            raw.measure(ground.count(2_000))
            number = 0
            while True:
                number += 1
                yield self._round(ground, raw, server, number)

    def _running(self) -> list[Contender]:
        return [each for each in self.contenders if each.failure is None]

    def _prepare(self, server: Server, kept: Path, ground: Ground) -> None:
        texts = kept / "turns.json"
        supply = islice(turns(), DIFFERENT_TURNS)
        texts.write_text(
            json.dumps([[message["content"] for message in turn] for turn in supply]), "utf-8"
        )
        length = ground.count(LENGTH) // 2
        for each in self.contenders:
            with each.measured("installing"):
                self._say(f"{each.entry.name}: installing if need be, and starting")
                each.start(self._environments, texts, kept / each.entry.name, self._search)
                each.ask("connect", url=server.create_database(each.entry.name))
                each.facts |= each.ask("durability")
                each.ask("fill", session="long", count=length)

    def _round(self, ground: Ground, raw: RawRows, server: Server, number: int) -> Round:
        for each in self._running():
            each.rounds.append({})
        details: dict[str, float] = {}
        for callers in LEVELS:
            rate = self._level(ground, raw, callers, f"r{number}")
            details[f"raw_rows_a_second_at_{callers}"] = rate
        length = ground.count(LENGTH) // 2
        for each in self._running():
            with each.measured("reading"):
                read = each.ask(
                    "read", session="long", turns=length, times=ground.count(9), seconds=3.0
                )
                each.note("read_ms", median(read["took"]) * 1e3)
        ours, *others = self.contenders
        if ours.failure is not None:
            raise RuntimeError(f"Holdfast itself failed: {ours.failure}")
        mine = ours.rounds[-1]
        for each in self._running():
            each.note("read_ratio", each.rounds[-1]["read_ms"] / mine["read_ms"])
        found = [each.rounds[-1] for each in others if each.failure is None]
        if not found:
            raise RuntimeError(f"there is nobody to compare with: {self.failures}")
        url = f"{server.url}?schema=delays"
        return Round(self._values(mine, found) | delays.measured(url, ground), details)

    def _level(self, ground: Ground, raw: RawRows, callers: int, name: str) -> float:
        """Let so many callers add turns to each store, in slices beside the limit."""
        made: dict[tuple[str, str], list[float]] = {}
        raw.reset()
        for part in range(SLICES):
            # There and back, so that nobody always follows the same neighbour.
            for each in self._running()[:: 1 if part % 2 == 0 else -1]:
                for kind in _kinds(each, callers):
                    raw.measure(ground.count(RAW_TURNS))
                    with each.measured(f"adding turns from {callers} {kind}"):
                        answer = each.ask(
                            "crowd",
                            kind=kind,
                            session=f"{name}-{kind}-{callers}-{part}",
                            callers=callers,
                            count=MOST_TURNS // callers,
                            seconds=SLICE_S * ground.share,
                        )
                        done = made.setdefault((each.entry.name, kind), [0.0, 0.0])
                        done[0] += answer["turns"]
                        done[1] += answer["seconds"]
        raw.measure(ground.count(RAW_TURNS))
        for each in self._running():
            for kind in _kinds(each, callers):
                count, took = made[each.entry.name, kind]
                key = f"{kind}_{callers}" if callers > 1 else "one"
                each.note(key, count / took / raw.rate)
                each.note(f"{key}_turns_a_second", count / took)
        return raw.rate

    @staticmethod
    def _values(mine: dict[str, float], found: list[dict[str, float]]) -> dict[str, float]:
        values = {ONE: mine["one"]} | {name: mine[key] for name, key in OURS.items()}
        for callers, name in AHEAD.items():
            keys = [f"{kind}_{callers}" for kind in (THREADS, TASKS)] if callers > 1 else ["one"]
            best = max(each[key] for each in found for key in keys if key in each)
            values[name] = min(mine[key] for key in keys) / best
        values[READING] = min(each["read_ratio"] for each in found)
        return values


def _kinds(each: Contender, callers: int) -> list[str]:
    """Return how a store's callers call it; a single one in the way that the store has first."""
    kinds = [kind for kind in (THREADS, TASKS) if kind not in each.lacks]
    return kinds[:1] if callers == 1 else kinds


def _described(server: Server) -> str:
    version = server.execute("SHOW server_version")[0][0]
    values = [f"{name} {server.execute(f'SHOW {name}')[0][0]}" for name in SETTINGS]
    return f"PostgreSQL {version}, default settings ({', '.join(values)})"
