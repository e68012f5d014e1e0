"""Holdfast beside other stores of conversations, each in its own environment, round by round.

Every store goes through the same worker, Holdfast too, and all of them are measured in each round
beside the disk's own rate. Whoever cannot be installed, or raises, is reported with the reason, and
the run fails at its end: nobody is left out in silence.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks import contests
from benchmarks.contender import Contender, Entry
from benchmarks.contests import LENGTHS, SESSIONS
from benchmarks.conversations import DIFFERENT_TURNS, turns
from benchmarks.crew import ROOT
from benchmarks.environments import ENVIRONMENTS
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import Raw
from benchmarks.peers.protocol import NEWEST

NAME = "peers"
FOLDER = Path(__file__).parent / "peers"
PEERS = tuple(
    Entry(name, f"benchmarks.peers.{name}", FOLDER / f"{name}.txt")
    for name in (
        "openai_agents",
        "langgraph",
        "google_adk",
        "agno",
        "strands",
        "langchain",
        "praisonaiagents",
    )
)
HOLDFAST = Entry("holdfast", "benchmarks.peers.holdfast_", None)
MAKING_SESSIONS_S = 60.0

AHEAD = {length: f"one caller at {length:,} messages, ahead of every peer" for length in LENGTHS}
READING = "reading 10,000 messages, faster than peers with a record a message"
FAULTS = "4 processes on one session, turns and messages harmed"


class Comparison:
    """A run of the comparison: what `rounds` finds out is kept in `contenders`."""

    def __init__(
        self,
        entries: Sequence[Entry] = PEERS,
        *,
        environments: Path = ENVIRONMENTS,
        search: tuple[Path, ...] = (ROOT,),
        say: Callable[[str], object] = print,
    ) -> None:
        self.contenders = [Contender(entry) for entry in (HOLDFAST, *entries)]
        self._environments = environments
        self._search = search
        self._say = say

    @property
    def failures(self) -> dict[str, str]:
        """Who failed, and how."""
        return {each.title: each.failure for each in self.contenders if each.failure is not None}

    @property
    def measurement(self) -> Measurement:
        """What stands among the other figures: Holdfast against the best of the others."""
        ahead = (Figure(name, "x", target=1) for name in AHEAD.values())
        return Measurement(
            NAME,
            (
                *ahead,
                Figure(READING, "x", target=1.5),
                Figure(FAULTS, "", Wanted.AT_MOST, target=0, strict=True),
            ),
            self.rounds,
        )

    def rounds(self, ground: Ground) -> Generator[Round, None, None]:
        """Install and prepare everybody, then measure them by turns."""
        try:
            with ground.folder() as kept:
                self._prepare(ground, kept.resolve())
                while True:
                    with ground.folder() as folder:
                        yield self._round(ground, kept.resolve(), folder.resolve())
        finally:
            for each in self.contenders:
                each.end()

    def _prepare(self, ground: Ground, kept: Path) -> None:
        texts = kept / "turns.json"
        supply = islice(turns(), DIFFERENT_TURNS)
        texts.write_text(
            json.dumps([[message["content"] for message in turn] for turn in supply]), "utf-8"
        )
        for each in self.contenders:
            with each.measured("installing"):
                self._say(f"{each.entry.name}: installing if need be, and starting")
                own = kept / each.entry.name
                each.start(self._environments, texts, own, self._search)
                for name in ("probe", "histories", "sessions"):
                    (own / name).mkdir()
                each.ask("open", folder=str(own / "probe"))
                each.facts |= each.ask("durability")
        self._say("making histories and sessions")
        running = [each for each in self.contenders if each.failure is None]
        for each in running:
            with each.measured("preparing"):
                _ask_for_stores(each, kept / each.entry.name, ground)
        for each in running:
            with each.measured("preparing"):
                _receive_stores(each, ground)

    def _round(self, ground: Ground, kept: Path, folder: Path) -> Round:
        running = [each for each in self.contenders if each.failure is None]
        for each in running:
            each.rounds.append({})
            source = kept / each.entry.name / "histories"
            shutil.copytree(source, folder / "histories" / each.entry.name)
        os.sync()  # or else the copies are still being written while we measure
        for each in running:
            with each.measured("opening"):
                each.ask("open", folder=str(folder / "histories" / each.entry.name))
        with Raw(folder / "raw") as raw:
            contests.read(running, ground)
            contests.append(running, ground, raw)
            for each in running:
                if each.failure is None and NEWEST not in each.lacks:
                    with each.measured("opening"):
                        each.ask("open", folder=str(kept / each.entry.name / "sessions"))
                        each.note("sessions", each.facts["sessions"])
            contests.listing(running, ground)
            contests.storm(running, ground, folder / "storm")
            contests.rewriting(running, ground, folder / "rewriting")
            contests.costs(running, ground, folder / "costs")
            return self._summary(raw)

    def _summary(self, raw: Raw) -> Round:
        ours, *others = self.contenders
        found = [each.rounds[-1] for each in others if each.failure is None]
        if ours.failure is not None:
            raise RuntimeError(f"Holdfast itself failed: {ours.failure}")
        if not found:
            raise RuntimeError(f"there is nobody to compare with: {self.failures}")
        mine = ours.rounds[-1]
        for each in self.contenders:
            if each.failure is None:
                each.note("read_ratio", each.rounds[-1]["read_ms"] / mine["read_ms"])
        rows = [
            each.rounds[-1] for each in others if each.failure is None and each.facts["per_message"]
        ]
        values = {
            name: mine[f"append_{length}"] / max(each[f"append_{length}"] for each in found)
            for length, name in AHEAD.items()
        }
        values[READING] = min(each["read_ms"] for each in rows or found) / mine["read_ms"]
        values[FAULTS] = mine["storm_faults"]
        return Round(values, {"raw_turns_a_second": raw.rate, "raw_longest_ms": raw.longest_ms})


def _ask_for_stores(each: Contender, own: Path, ground: Ground) -> None:
    """Have the stores made that every round begins with; all peers do it at the same time."""
    worker = each.worker()
    worker.tell("open", folder=str(own / "histories"))
    for length in LENGTHS[1:]:
        worker.tell("fill", session=f"{length}", count=length // 2)
    if NEWEST not in each.lacks:
        worker.tell("open", folder=str(own / "sessions"))
        worker.tell(
            "make_sessions",
            count=ground.count(SESSIONS),
            seconds=MAKING_SESSIONS_S * ground.share,
        )
    worker.tell("close")


def _receive_stores(each: Contender, ground: Ground) -> None:
    worker = each.worker()
    for _ in LENGTHS:
        worker.answer()
    if NEWEST not in each.lacks:
        worker.answer()
        made = worker.answer()["made"]
        each.facts["sessions"] = made
        if made < ground.count(SESSIONS):
            each.remark(f"{made:,} sessions to list from, as many as were made in the time")
    worker.answer()
