"""One process that runs turns: connects, says `ready`, and does its role when it is told to go.

Its words are ROLE URL NAME ARGUMENT... (see `tests.forking`). The parent speaks on standard input
and is answered on standard output, a line each.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import holdfast
from holdfast.errors import HoldfastError, LeaseLost, SessionBusy
from holdfast.model.entry import DeltaEntry
from holdfast.store.opening import OnBusy
from holdfast.store.postgres.writer import Writer as PostgresWriter
from holdfast.store.sources import Sources
from holdfast.store.sqlite.writer import Writer as SqliteWriter
from holdfast.store.streaming import RunningTurn
from holdfast.store.sync_turn import Turn
from tests.stores import is_postgres, slow_sources
from tests.turns.judging import reply_to

SESSION = "turns"
TTL_S = 1.0
SHORT_TTL_S = 0.3
LONG_S = 60.0
LATER_MS = 120_000
"""After so long every lease of now has run out, and streamed text may go."""
CALL = [{"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]
STEPS = ["open", "text", "call", "result", "more text", "last text", "renewal", "close"]
"""What `step` commits, one after the other."""

SLOW_S = 0.001
"""How long a commit takes longer than it has to, inside its transaction."""


class Worker:
    """The process's name, its store and its part of the talk with the parent."""

    def __init__(self, url: str, name: str, arguments: list[str]) -> None:
        self.url = url
        self.name = name
        self.arguments = arguments
        self.store = holdfast.connect(url, sources=slow_sources(url, SLOW_S))

    def say(self, *words: object) -> None:
        """Send a line to the parent."""
        os.write(1, (" ".join(map(str, words)) + "\n").encode())

    def hear(self) -> str:
        """Wait for the parent's next line."""
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(0, 1)
            if not more:
                os._exit(1)  # the parent is gone
            line += more
        return line.decode().strip()


def until(condition: Callable[[], bool]) -> None:
    """Wait until something has come true."""
    deadline = time.monotonic() + LONG_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(0.002)


# Stopping at one commit


def halt_at(worker: Worker, number: int, moment: str) -> None:
    """From now on stop at the `number`th commit, right before it or right after it."""
    commits = 0
    writer: Any = PostgresWriter if is_postgres(worker.url) else SqliteWriter
    name = "_commit" if writer is PostgresWriter else "_commit_batch"
    commit = getattr(writer, name)

    def halt(*given: object) -> None:
        nonlocal commits
        commits += 1
        here = commits == number
        if here and moment == "sent":
            worker.say("halted")
            worker.hear()
        commit(*given)
        if here and moment == "answered":
            worker.say("halted")
            worker.hear()

    patch.object(writer, name, halt).start()


def step(worker: Worker) -> None:
    """Run one turn through all its states; stop at one commit of it."""
    number, moment = worker.arguments
    halt_at(worker, int(number), moment)
    try:
        with worker.store.turn(SESSION, "a:0", key="k") as turn:
            show(worker, turn, "Let me look. ")
            turn.add_message("assistant", "Let me look. Now.", tool_calls=CALL)
            turn.add_message("tool", "noon", tool_call_id="c1")
            show(worker, turn, "It is ")
            show(worker, turn, "noon. ")
            renew(turn)
            turn.record_usage(input_tokens=1)
            turn.write("Bye.")
    except KeyboardInterrupt:
        worker.say("interrupted")


def show(worker: Worker, turn: Turn, text: str) -> None:
    """Write a piece, and wait until it is in the log."""

    def is_there() -> bool:
        entries = worker.store.read_entries(SESSION)
        return any(isinstance(entry, DeltaEntry) and entry.text == text for entry in entries)

    turn.write(text)
    until(is_there)


def renew(turn: Turn) -> None:
    """Renew the lease now; raise what keeps it from being renewed."""
    live = running(turn)
    until(lambda: not live._posted)  # a piece may be in the log already, and its answer not here
    live.beat(time.monotonic() + LONG_S)
    until(lambda: not live._posted)
    if live.fault is not None:
        raise live.fault


def running(turn: Turn) -> RunningTurn:
    """Return a turn as the engine knows it."""
    assert turn._running is not None
    return turn._running


def take_over_later(worker: Worker) -> None:
    """Open the next turn when every lease has run out; stop at the commit that does it."""
    halt_at(worker, 1, worker.arguments[0])
    sources = Sources(now_ms=lambda: time.time_ns() // 1_000_000 + LATER_MS)
    with holdfast.connect(worker.url, sources=sources) as store, store.turn(SESSION, "b:0"):
        pass


# Talking


def talk(worker: Worker) -> None:
    """Run turns one after the other, with pauses between the pieces of each answer."""
    count, mode, pause_ms = int(worker.arguments[0]), worker.arguments[1], int(worker.arguments[2])
    for number in range(count):
        while not answer(worker, number, mode, pause_ms / 1000):  # type: ignore[arg-type] # a mode
            pass


def answer(worker: Worker, number: int, mode: OnBusy, pause_s: float) -> bool:
    """Run one turn; false if the session was busy."""
    prompt = f"{worker.name}:{number}"
    try:
        with worker.store.turn(
            SESSION, prompt, key=prompt, on_busy=mode, ttl=TTL_S, timeout=LONG_S
        ) as turn:
            if turn.replayed:
                return True
            for piece in reply_to(prompt):
                turn.write(piece)
                if turn.wait_interrupted(random.uniform(0, 2 * pause_s)):
                    break
    except SessionBusy:
        return False
    return True


def hold(worker: Worker) -> None:
    """Open a turn, show some text, wait to be stopped; again as long as the parent wants."""
    while True:
        with worker.store.turn(SESSION, "go", ttl=LONG_S) as turn:
            show(worker, turn, f"half {turn.id}")
            worker.say("holding")
            assert turn.wait_interrupted(LONG_S)
            worker.say("stopped")
        worker.say("closed")
        if worker.hear() != "again":
            return


def be_stopped(worker: Worker) -> None:
    """Show some text, wait while others go on, then try to write in every way."""
    turn = worker.store.turn(SESSION, "a:0", ttl=TTL_S)
    turn.__enter__()
    show(worker, turn, "shown")
    worker.say("holding")
    worker.hear()
    attempts: list[Callable[[], object]] = [
        lambda: turn.add_message("assistant", "too late"),
        lambda: turn.write("too late" * 1024),
        lambda: renew(turn),
        lambda: turn.__exit__(None, None, None),
    ]
    for attempt in attempts:
        try:
            attempt()
        except LeaseLost:
            worker.say("LeaseLost")
        else:
            worker.say("done")


def think(worker: Worker) -> None:
    """Say nothing until the parent speaks, in code that never yields.

    The lease is renewed as often as a short one, and is so long that no machine is too busy for it.
    """
    with worker.store.turn(SESSION, "a:0", ttl=LONG_S) as turn:
        running(turn)._ttl_s = SHORT_TTL_S
        worker.say("thinking")
        if worker.arguments[0] == "busily":
            while not select.select([0], [], [], 0)[0]:
                sum(range(1000))
        worker.hear()  # a call that blocks
        turn.write("I thought.")


def queue(worker: Worker) -> None:
    """Stand in line for one turn."""
    with worker.store.turn(SESSION, f"{worker.name}:0", timeout=LONG_S) as turn:
        turn.write("".join(reply_to(f"{worker.name}:0")))


def add(worker: Worker) -> None:
    """Add a message whenever the parent says so, and tell when it was sent and durable."""
    while worker.hear() == "add":
        sent = time.monotonic_ns()
        worker.store.add_user_message(SESSION, str(sent))
        worker.say(sent, time.monotonic_ns())


# Ctrl-C


def talk_until_stopped(worker: Worker) -> None:
    """Run turns until Ctrl-C."""
    number = 0
    try:
        worker.say("talking")
        while True:
            answer(worker, number, "wait", 0.002)
            number += 1
    except KeyboardInterrupt:
        worker.say("interrupted")


def talk_async_until_stopped(worker: Worker) -> None:
    """The same in a task."""

    async def run() -> None:
        async with holdfast.connect_async(worker.url) as store:
            worker.say("talking")
            number = 0
            while True:
                prompt = f"{worker.name}:{number}"
                async with store.turn(SESSION, prompt) as turn:
                    for piece in reply_to(prompt):
                        await turn.write(piece)
                        await asyncio.sleep(0.002)
                number += 1

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        worker.say("interrupted")


# Forks


def fork(worker: Worker) -> None:
    """Fork inside a turn; the child tries to write, to renew and to close, then goes its way."""
    with worker.store.turn(SESSION, "a:0", ttl=TTL_S) as turn:
        show(worker, turn, "the parent's. ")
        child = os.fork()
        if child == 0:
            be_a_child(worker, turn)
        worker.hear()
        os.waitpid(child, 0)
        turn.write("Still.")


def be_a_child(worker: Worker, turn: Turn) -> None:
    """Do to the parent's turn whatever one can, and end without a word to the parent's callers."""
    said: list[str] = []
    attempts: list[Callable[[], object]] = [
        lambda: turn.write("the child's" * 1024),
        lambda: turn.add_message("assistant", "the child's"),
        lambda: turn.record_usage(input_tokens=7),
        lambda: turn.__exit__(None, None, None),
        lambda: turn.__exit__(SystemExit, SystemExit(), None),
    ]
    try:
        for attempt in attempts:
            try:
                attempt()
            except HoldfastError as error:
                said.append(error.code)
            else:
                said.append("done")
        worker.store.add_user_message("child", "hello")
        beating = len(worker.store._engine._beating)
        worker.say("child", *said, beating)
    finally:
        os._exit(0)


# Many


def run_many(worker: Worker) -> None:
    """Run turns of many sessions at the same time, in one event loop; tell of the threads."""
    count = int(worker.arguments[0])
    most = 0

    async def run_one(store: holdfast.AsyncSessionStore, number: int) -> None:
        nonlocal most
        prompt = f"{number}"
        async with store.turn(f"many-{number}", prompt) as turn:
            for piece in reply_to(prompt):
                await turn.write(piece)
                await asyncio.sleep(0.15)
                most = max(most, threading.active_count())

    async def run() -> None:
        async with holdfast.connect_async(worker.url) as store:
            begun = time.monotonic()
            await asyncio.gather(*(run_one(store, number) for number in range(count)))
            worker.say(most, time.monotonic() - begun)

    asyncio.run(run())


ROLES: dict[str, Callable[[Worker], None]] = {
    role.__name__: role
    for role in (
        step,
        take_over_later,
        talk,
        hold,
        be_stopped,
        think,
        queue,
        add,
        talk_until_stopped,
        talk_async_until_stopped,
        fork,
        run_many,
    )
}


def main(words: Sequence[str]) -> None:
    """Connect, wait for the parent, do the role."""
    role, url, name, *arguments = words
    worker = Worker(url, name, arguments)
    worker.say("ready")
    worker.hear()
    ROLES[role](worker)
    worker.store.close()
