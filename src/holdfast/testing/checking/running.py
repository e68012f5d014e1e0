"""A run: clients at work on one store, and the last read when all of them are gone."""

from __future__ import annotations

import contextlib
import random
import selectors
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import msgspec

from holdfast.errors import HoldfastError, Unavailable
from holdfast.testing.checking.faces import Faces, Wrap
from holdfast.testing.checking.operation import FINAL, Place
from holdfast.testing.checking.plan import Plan
from holdfast.testing.checking.process import work_as_tasks, work_as_threads
from holdfast.testing.checking.recorder import RecordedStore, drive
from holdfast.testing.checking.recording import ClientLog, Recording, read_recording


def record(plan: Plan, wrap: Wrap | None = None) -> Recording:
    """Run a plan and return the recording."""
    return run(plan, wrap)[0]


def run(plan: Plan, wrap: Wrap | None = None) -> tuple[Recording, int]:
    """Let the plan's clients work, then read everything once more; return the kills as well.

    A store that several processes can reach gets several, and some are killed. `wrap` puts
    something between the engine and the backend, and keeps the run in this process.
    """
    plan.path.mkdir(parents=True, exist_ok=True)
    kills = 0
    if wrap is None and not plan.in_memory:
        kills = _Processes(plan).run()
        with Faces(plan) as faces:
            _read_finally(plan, faces)
    else:
        with Faces(plan, wrap) as faces:
            _work_here(plan, faces)
            _read_finally(plan, faces)
    return read_recording(plan.path), kills


def _work_here(plan: Plan, faces: Faces) -> None:
    """Run threads and tasks on one engine, in this process."""
    failures: list[BaseException] = []

    def work_as_tasks_here() -> None:
        try:
            work_as_tasks(plan, faces, plan.names(1), lambda _: None)
        except BaseException as error:  # noqa: BLE001 - raised below, on the thread that waits
            failures.append(error)

    thread = threading.Thread(target=work_as_tasks_here)
    thread.start()
    try:
        work_as_threads(plan, faces, plan.names(0), lambda _: None)
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _read_finally(plan: Plan, faces: Faces) -> None:
    places = sorted(read_recording(plan.path), key=lambda place: (place.tenant, place.session))
    with contextlib.closing(ClientLog(plan.path, FINAL)) as log:
        for place in places:
            drive(_read_place(RecordedStore(faces.for_threads(place.tenant), log), place))


async def _read_place(store: RecordedStore, place: Place) -> None:
    with contextlib.suppress(HoldfastError):  # it was deleted; what else it may be is recorded
        await store.read_entries(place.session)
    with contextlib.suppress(HoldfastError):
        await store.get_chat_history(place.session)


class _Processes:
    """The processes of a run. They are killed by what they have done, not by the clock."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()
        self._done = 0
        self._kills = 0

    def run(self) -> int:
        """Start them, kill some, and return how many once all have ended by themselves."""
        try:
            for number in range(self._plan.processes):
                self._start(number)
            while self._running:
                for found, _ in self._selector.select():
                    self._hear(found.data, found.fileobj)  # type: ignore[arg-type] # a pipe, as it went in
        finally:
            for number in list(self._running):
                self._running[number].kill()
                self._let_go(number)
            self._selector.close()
        return self._kills

    def _start(self, number: int) -> None:
        with Path(self._plan.folder, f"process{number}.errors").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.testing.checking.process", str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        # On standard input, since a store's address may hold a password.
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(msgspec.json.encode(self._plan))
        self._running[number] = process
        self._selector.register(process.stdout, selectors.EVENT_READ, number)

    def _hear(self, number: int, pipe: IO[bytes]) -> None:
        if number not in self._running or self._running[number].stdout is not pipe:
            return  # it was killed while the others were heard
        line = pipe.readline()
        if line:
            self._done += int(line)
            self._kill_if_due()
            return
        code = self._let_go(number)
        if code != 0:
            text = Path(self._plan.folder, f"process{number}.errors").read_text("utf-8")
            said = text.strip().splitlines()
            raise Unavailable(
                f"process {number} of the run ended with {code}: {said[-1] if said else ''}",
                retryable=False,
                code="run_broke_off",
            )

    def _kill_if_due(self) -> None:
        plan = self._plan
        due = 0.9 * plan.operations * (self._kills + 1) / (plan.kills + 1)
        if self._kills < plan.kills and self._done >= due and self._running:
            victim = self._random.choice(sorted(self._running))
            self._running[victim].kill()
            self._let_go(victim)
            self._kills += 1
            self._start(victim)

    def _let_go(self, number: int) -> int:
        process = self._running.pop(number)
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        process.stdout.close()
        return process.wait()
