"""The process that follows the sessions with turns and writes down, outside the store, what it saw.

Whoever is shown text must find it in the session afterwards, wherever its worker was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import holdfast
from holdfast.errors import Unavailable
from holdfast.model.entry import DeltaEntry
from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.worker import Whistle, connect

SUFFIX = ".shown"
FOLLOWED = 6
"""So many sessions are followed at once, the newest: a turn is resumed soon or never."""

LOOK_S = 0.05


class Shown(NamedTuple):
    """A piece of streamed text that a follower was shown."""

    session: str
    turn: str
    attempt: int
    call: int
    offset: int
    text: str


def follow(plan: Plan, name: str) -> None:
    """Follow the sessions of the moment until the storm is over."""
    asyncio.run(_follow(plan, Path(plan.folder, name + SUFFIX)))


async def _follow(plan: Plan, path: Path) -> None:
    whistle = Whistle(plan)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    following: dict[str, asyncio.Task[None]] = {}
    async with await _connected(plan) as store:
        while not whistle.blown():
            for session in plan.turns_now():
                if session not in following and await store.session_exists(session):
                    following[session] = asyncio.create_task(_write_down(store, session, file))
            for session in list(following)[:-FOLLOWED]:
                await _stop(following.pop(session))
            await asyncio.sleep(LOOK_S)
        for task in following.values():
            await _stop(task)
    os.close(file)


async def _connected(plan: Plan) -> holdfast.AsyncSessionStore:
    """Open the plan's store, as soon as its server answers."""
    while True:
        await asyncio.to_thread(lambda: connect(plan).close())
        with suppress(Unavailable):  # it went away again in this very moment
            return await holdfast.connect_async(plan.url)


async def _stop(task: asyncio.Task[None]) -> None:
    """End a task; what went wrong in it is raised here."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _write_down(store: holdfast.AsyncSessionStore, session: str, file: int) -> None:
    async for entry in store.follow(session):
        if isinstance(entry, DeltaEntry):
            shown = Shown(session, entry.turn, entry.attempt, entry.call, entry.offset, entry.text)
            os.write(file, (json.dumps(shown) + "\n").encode())


def read_shown(path: Path) -> list[Shown]:
    """Return what a follower was shown."""
    return [Shown(*json.loads(line)) for line in path.read_text("utf-8").splitlines()]
