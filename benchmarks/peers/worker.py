"""Measures one peer inside that peer's own Python: a command a line in, an answer a line out.

    python -P -m benchmarks.peers.worker MODULE TURNS.json

`TURNS.json` holds the texts, so that every peer saves the same. What is measured is measured here,
around the peer's calls alone; what was written is read back and compared, so that no peer is
measured doing nothing. An answer is `{"ok": …}`, or `{"error": …}` when the peer raised: then the
worker goes on, and what to do about it is the driver's decision.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import platform
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from benchmarks.peers.callers import Callers
from benchmarks.peers.protocol import (
    TASKS,
    Histories,
    Peer,
    Said,
    ServerPeer,
    ServerStore,
    Store,
    Turn,
)

Answer = dict[str, Any]
DONE: Answer = {}
MESSAGES_A_TURN = 2


class NotThere(Exception):
    """What was saved is not what is read back."""


@dataclass(slots=True)
class Worker:
    """One peer, the texts, and the stores that are open."""

    peer: Peer | ServerPeer
    texts: list[Turn]
    open_store: Histories | None = None

    @property
    def histories(self) -> Histories:
        """The store that is open."""
        if self.open_store is None:
            raise RuntimeError("no store is open")
        return self.open_store

    @property
    def store(self) -> Store:
        """The store that is open, in a folder."""
        return cast(Store, self.histories)

    def turns(self, first: int, count: int, mark: str = "") -> list[Turn]:
        """Return the turns with these numbers, the same in every process."""
        chosen = (self.texts[number % len(self.texts)] for number in range(first, first + count))
        return [Turn(f"{mark}{turn.user}", f"{mark}{turn.assistant}") for turn in chosen]

    async def hello(self) -> Answer:
        """Tell what this is."""
        about = self.peer.ABOUT
        return {
            "title": about.title,
            "version": importlib.metadata.version(about.distribution),
            "importing": about.importing,
            "how": about.how,
            "per_message": about.per_message,
            "lacks": sorted(about.lacks),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        }

    async def open(self, folder: str) -> Answer:
        """Open the store in a folder, and close the one before."""
        await self.close()
        self.open_store = await cast(Peer, self.peer).opened(Path(folder))
        return DONE

    async def connect(self, url: str) -> Answer:
        """Open the store in a database of a server, and close the one before."""
        await self.close()
        self.open_store = await cast(ServerPeer, self.peer).connected(url)
        return DONE

    async def close(self) -> Answer:
        """Close the store."""
        store, self.open_store = self.open_store, None
        if store is not None:
            await store.close()
        return DONE

    async def durability(self) -> Answer:
        """Tell what a write waits for."""
        return {"durability": await self.histories.durability()}

    async def fill(self, session: str, count: int) -> Answer:
        """Give a session the first `count` turns."""
        await self.histories.fill(session, self.turns(0, count))
        return DONE

    async def make_sessions(self, count: int, seconds: float) -> Answer:
        """Make sessions of one turn, as many as the time allows."""
        until = time.perf_counter() + seconds
        made = 0
        for turn in self.turns(0, count):
            await self.store.add_turn(f"session-{made}", turn)
            made += 1
            if time.perf_counter() > until:
                break
        return {"made": made}

    async def add(self, session: str, first: int, count: int, seconds: float) -> Answer:
        """Add turns one after the other, as many as the time allows."""
        store, work = self.store, self.turns(first, count)
        made = 0
        longest = 0.0
        started = before = time.perf_counter()
        for turn in work:
            await store.add_turn(session, turn)
            made += 1
            after = time.perf_counter()
            longest = max(longest, after - before)
            before = after
            if after - started > seconds:
                break
        return {"turns": made, "seconds": before - started, "longest": longest}

    async def crowd(
        self, kind: str, session: str, callers: int, count: int, seconds: float
    ) -> Answer:
        """Add turns from threads or tasks, each in a session of its own; read all of them back."""
        store = cast(ServerStore, self.histories)
        names = [f"{session}-{number}" for number in range(callers)]
        crowd = Callers(store, names, self.turns(0, count), seconds)
        made = await crowd.tasks() if kind == TASKS else await asyncio.to_thread(crowd.threads)
        for name in names:
            await self.check(name, made.there[name])
        return {"turns": made.measured, "seconds": made.seconds}

    async def check(self, session: str, turns: int) -> Answer:
        """Read a history back, and compare it with what was added."""
        self.histories.forget(session)
        _require_same(await self._read(session), self.turns(0, turns))
        return DONE

    async def read(self, session: str, turns: int, times: int, seconds: float) -> Answer:
        """Read a whole history; tell how long each time took."""

        async def whole() -> object:
            return await self.histories.read_all(session)

        took, found = await _timed(whole, times, seconds)
        _require_same(self.histories.said(found), self.turns(0, turns))
        return {"took": took}

    async def last(
        self, session: str, turns: int, count: int, times: int, seconds: float
    ) -> Answer:
        """Read the end of a history; tell how long each time took."""

        async def end() -> object:
            return await self.store.read_last(session, count)

        took, found = await _timed(end, times, seconds)
        said = self.store.said(found)
        wanted = -(-count // MESSAGES_A_TURN)
        _require_same(said, self.turns(turns - wanted, wanted))
        return {"took": took}

    async def newest(self, count: int, times: int, seconds: float) -> Answer:
        """List the newest sessions; tell how long each time took."""

        async def page() -> object:
            return await self.store.newest(count)

        took, found = await _timed(page, times, seconds)
        ids = cast(list[str], found)
        if len(ids) != count or len(set(ids)) != count:
            raise NotThere(f"{len(ids)} sessions were listed, {count} were asked for")
        return {"took": took}

    async def storm(self, session: str, process: int, count: int, seconds: float) -> Answer:
        """Be one of several that add turns to one session, each turn as a request of its own."""
        store = self.store
        acknowledged: list[int] = []
        refused: list[int] = []
        errors: Counter[str] = Counter()
        longest = 0.0
        started = time.perf_counter()
        for number in range(count):
            [turn] = self.turns(number, 1, f"{process}:{number} ")
            store.forget(session)
            before = time.perf_counter()
            try:
                await store.add_turn(session, turn)
            except Exception as error:  # noqa: BLE001 - whatever a peer refuses with is counted
                refused.append(number)
                errors[f"{type(error).__name__}: {error}"[:200]] += 1
            else:
                acknowledged.append(number)
            after = time.perf_counter()
            longest = max(longest, after - before)
            if after - started > seconds:
                break
        return {
            "acknowledged": acknowledged,
            "refused": refused,
            "errors": dict(errors),
            "longest": longest,
            "seconds": time.perf_counter() - started,
        }

    async def marks(self, session: str) -> Answer:
        """Tell the mark and the role of each message that is there, in order."""
        self.store.forget(session)
        return {"marks": [[_mark(said), said.role] for said in await self._read(session)]}

    async def rewrite(self, session: str, turns: int, seconds: float) -> Answer:
        """Replace a history over and over; its last state must then be there."""
        rewrites = errors = 0
        took = 0.0
        written: list[Turn] | None = None
        while took < seconds:
            history = self.turns(0, turns, f"{rewrites + errors} ")
            started = time.perf_counter()
            try:
                await self.store.replace(session, history)
            except Exception:  # noqa: BLE001 - whatever a peer refuses with is counted
                errors += 1
                written = None
            else:
                rewrites += 1
                written = history
            took += time.perf_counter() - started
        if written is not None:
            _require_same(await self._read(session), written)
        return {"rewrites": rewrites, "errors": errors, "seconds": took}

    async def watch(self, session: str, turns: int, seconds: float) -> Answer:
        """Read a history that another process replaces; tell what was never committed."""
        reads = empty = partial = errors = 0
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            reads += 1
            try:
                said = await self._read(session)
            except Exception:  # noqa: BLE001 - a read that raises is counted as such
                errors += 1
                continue
            whole = len(said) == MESSAGES_A_TURN * turns and len(set(map(_mark, said))) == 1
            empty += not said
            partial += bool(said) and not whole
        return {"reads": reads, "empty": empty, "partial": partial, "errors": errors}

    async def _read(self, session: str) -> list[Said]:
        return self.histories.said(await self.histories.read_all(session))


def _require_same(found: Sequence[Said], turns: Sequence[Turn]) -> None:
    wanted = [
        Said(role, text)
        for turn in turns
        for role, text in (("user", turn.user), ("assistant", turn.assistant))
    ]
    if list(found) != wanted:
        raise NotThere(f"{len(wanted)} messages should be there, {len(found)} or others are")


async def _timed(
    read: Callable[[], Awaitable[object]], times: int, seconds: float
) -> tuple[list[float], object]:
    """Read so often, at least once, while the time allows; return each time and the last result."""
    took: list[float] = []
    found: object = None
    until = time.perf_counter() + seconds
    while not took or (len(took) < times and time.perf_counter() < until):
        started = time.perf_counter()
        found = await read()
        took.append(time.perf_counter() - started)
    return took, found


def _mark(said: Said) -> str:
    return said.text.partition(" ")[0]


async def serve(worker: Worker, commands: TextIO, answers: TextIO) -> None:
    """Carry out each line's command until there are no more, then close the store."""
    for line in commands:
        command = json.loads(line)
        name = command.pop("do")
        try:
            answer = {"ok": await getattr(worker, name)(**command)}
        except Exception as error:  # noqa: BLE001 - a worker's loop: the driver decides
            answer = {"error": f"{name}: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    await worker.close()


def main() -> None:
    """Serve the module that is named on the command line."""
    module, texts = sys.argv[1:]
    # Peers print, also to standard output: the answers go where nobody else writes.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    turns = [Turn(*pair) for pair in json.loads(Path(texts).read_text("utf-8"))]
    peer = cast(Peer | ServerPeer, importlib.import_module(module))
    asyncio.run(serve(Worker(peer, turns), sys.stdin, answers))


if __name__ == "__main__":
    main()
