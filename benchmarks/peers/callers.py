"""Callers that add turns at the same time: threads, or tasks of one event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.peers.protocol import ServerStore, Turn

START_S = 60.0


@dataclass(slots=True)
class Made:
    """How many turns each session has, how many of all were measured, and for how long."""

    there: dict[str, int] = field(default_factory=dict)
    measured: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Callers:
    """One caller for each session.

    Each adds one turn that does not count, and then others until the time is up or there are no
    more. What is measured begins when all are ready and ends when the last one is done.
    """

    store: ServerStore
    sessions: Sequence[str]
    turns: Sequence[Turn]
    seconds: float

    def threads(self) -> Made:
        """Let every caller be a thread."""
        ready = threading.Barrier(len(self.sessions) + 1)

        def begin(session: str) -> None:
            self.store.add_turn_in_thread(session, self.turns[0])

        def go_on(session: str) -> int:
            ready.wait(START_S)
            until = time.perf_counter() + self.seconds
            there = 1
            for turn in self.turns[1:]:
                self.store.add_turn_in_thread(session, turn)
                there += 1
                if time.perf_counter() > until:
                    break
            return there

        with ThreadPoolExecutor(len(self.sessions)) as pool:
            list(pool.map(begin, self.sessions))
            crowd = [pool.submit(go_on, session) for session in self.sessions]
            ready.wait(START_S)
            started = time.perf_counter()
            there = [done.result() for done in crowd]
            took = time.perf_counter() - started
        return self._made(there, took)

    async def tasks(self) -> Made:
        """Let every caller be a task."""

        async def go_on(session: str, until: float) -> int:
            there = 1
            for turn in self.turns[1:]:
                await self.store.add_turn(session, turn)
                there += 1
                if time.perf_counter() > until:
                    break
            return there

        await asyncio.gather(*(self.store.add_turn(name, self.turns[0]) for name in self.sessions))
        started = time.perf_counter()
        until = started + self.seconds
        there = await asyncio.gather(*(go_on(session, until) for session in self.sessions))
        took = time.perf_counter() - started
        return self._made(there, took)

    def _made(self, there: Sequence[int], took: float) -> Made:
        return Made(dict(zip(self.sessions, there, strict=True)), sum(there) - len(there), took)
