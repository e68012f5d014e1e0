"""Starts a storm's workers, kills them at random moments, starts them again.

It runs in a process of its own that has one thread and never opens the store, so that forking a
worker is quick and safe. It signals only its own children, and ends them all when whoever started
it is gone or asks it to. Every line that it prints is a `Progress`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeAlias

from holdfast.testing.torture import (
    acknowledgements,
    follower,
    reader,
    rewriter,
    streamer,
    turnlog,
    worker,
)
from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.progress import LogWatch

TELL_S = 0.1
"""How often progress is told, at most."""

LAST_CALL_S = 40.0
"""How long the workers may take to begin, and to end: longer than a write's deadline."""

Part: TypeAlias = Callable[[Plan, str], None]


def main() -> None:
    """Run the plan that stdin gives, for the process whose id is the first argument."""
    # Forking is quick, and safe here: one thread, no connection. Windows has spawn only.
    multiprocessing.set_start_method("spawn" if sys.platform == "win32" else "fork")
    plan = replace(Plan.from_json(sys.stdin.read()), supervisor=os.getpid(), begun=time.time())
    if plan.url.startswith("postgres"):
        # Here once, or in each worker anew, which would be killed before it has done anything.
        importlib.import_module("holdfast.store.postgres.backend")
    supervisor = Supervisor(plan, int(sys.argv[1]))
    try:
        finished = supervisor.run()
    finally:
        supervisor.end_all()
    sys.exit(0 if finished else 1)


class Supervisor:
    """The storm's one parent process."""

    def __init__(self, plan: Plan, parent: int) -> None:
        self._plan = plan
        self._parent = parent
        self._random = random.Random(plan.seed)
        self._watch = LogWatch(Path(plan.folder))
        self._victims: dict[str, _Child] = {}
        self._readers: dict[str, _Child] = {}
        self._kills = 0
        self._unanswered = 0
        self._cut = 0
        self._failures: list[str] = []
        self._began: float | None = None
        self._next_tell = 0.0

    def run(self) -> bool:
        """Run the storm; false if it was called off."""
        self._cast()
        for child in self._children():
            child.start()
        return self._begin() and self._storm() and self._last_call()

    def _cast(self) -> None:
        """Say who is to do what."""
        plan = self._plan
        writers = 0 if plan.naive else plan.writers  # in a naive storm all of them are savers
        names = [f"writer{number + 1}" for number in range(writers)]
        names += [f"saver{number + 1}" for number in range(plan.writers + plan.savers - writers)]
        for name in names:
            part = worker.write if name.startswith("writer") else worker.save
            self._victims[name] = _Child(plan, part, name, name + acknowledgements.SUFFIX)
        self._victims["rewriter"] = _Child(plan, rewriter.rewrite, "rewriter", rewriter.LOG)
        for name in (f"streamer{number + 1}" for number in range(plan.streamers)):
            self._victims[name] = _Streamer(plan, streamer.stream, name, name + turnlog.SUFFIX)
        for name in (f"reader{number + 1}" for number in range(plan.readers)):
            self._readers[name] = _Child(plan, reader.read, name, name + reader.SUFFIX)
        if plan.streamers:
            name = "follower1"
            self._readers[name] = _Child(plan, follower.follow, name, name + follower.SUFFIX)

    def end_all(self) -> None:
        """Kill whoever still runs; nobody does after a storm that ended well."""
        for child in self._children():
            child.kill()

    def _children(self) -> list[_Child]:
        return [*self._victims.values(), *self._readers.values()]

    def _begin(self) -> bool:
        """Wait until all kinds of work are under way; false if the storm was called off.

        Only now does its time run: a busy machine takes seconds to get here, and a short storm
        would be over before anything was written or read.
        """
        deadline = time.time() + LAST_CALL_S
        while not self._under_way() and time.time() < deadline:
            if self._called_off():
                return False
            self._wait(TELL_S)
            if not all(child.runs for child in self._children()):
                break  # the storm says so
            self._tell()
        self._began = time.time()
        return True

    def _under_way(self) -> bool:
        seen, plan = self._watch.counted(), self._plan
        shown = seen.pieces or not plan.streamers
        return bool(seen.acknowledged and (seen.reads or not plan.readers) and shown)

    def _storm(self) -> bool:
        plan = self._plan
        assert self._began is not None
        end = self._began + plan.seconds
        gap_s = plan.seconds / max(1, plan.kills_wanted)
        next_kill = self._began + self._random.uniform(0.2, 1.8) * gap_s
        while time.time() < end or self._kills < plan.kills_wanted:
            if self._called_off():
                return False
            self._wait(min(next_kill - time.time(), TELL_S))
            if gone := [child.name for child in self._children() if not child.runs]:
                if not self._failures:
                    self._failures.append(f"{', '.join(gone)} ended before the storm did")
                return True  # a worker that ends by itself is a finding, and hides others
            if time.time() >= next_kill and self._kills < plan.kills_wanted:
                self._kill_one()
                next_kill += self._random.uniform(0.2, 1.8) * gap_s
            self._tell()
        return True

    def _last_call(self) -> bool:
        self._plan.stop_file.touch()
        deadline = time.time() + LAST_CALL_S
        while any(child.runs for child in self._children()):
            if self._called_off():
                return False
            if time.time() > deadline:
                stuck = [child.name for child in self._children() if child.runs]
                self._failures.append(f"{', '.join(stuck)} did not end within {LAST_CALL_S:.0f} s")
                break
            self._wait(TELL_S)
            self._tell()
        self._tell(now=True)
        return True

    def _wait(self, timeout_s: float) -> None:
        """Wait for somebody to end, which only a worker that failed does before the last call."""
        running = {child.sentinel: child for child in self._children() if child.runs}
        for ended in connection.wait(list(running), max(0.0, timeout_s)):
            failure = running[ended].failure()  # type: ignore[index] # a sentinel, as it went in
            if failure:
                self._failures.append(failure)

    def _kill_one(self) -> None:
        victim = self._victims[self._random.choice(list(self._victims))]
        if victim.kill():
            self._kills += 1
            self._unanswered += victim.left_unanswered()
            self._cut += victim.was_in_a_turn()
            victim.start()

    def _called_off(self) -> bool:
        return self._plan.abort_file.exists() or os.getppid() != self._parent

    def _tell(self, *, now: bool = False) -> None:
        if not now and time.time() < self._next_tell:
            return
        self._next_tell = time.time() + TELL_S
        progress = replace(
            self._watch.counted(),
            elapsed_s=0.0 if self._began is None else round(time.time() - self._began, 3),
            kills=self._kills,
            unanswered=self._unanswered,
            cut=self._cut,
            failures=self._failures,
        )
        sys.stdout.write(progress.to_json() + "\n")
        sys.stdout.flush()


class _Child:
    """One worker: a process that is started again after each kill."""

    def __init__(self, plan: Plan, part: Part, name: str, log: str) -> None:
        self.name = name
        self._plan = plan
        self._part = part
        self._log = Path(plan.folder, log)
        self._log_size = 0
        self._process: BaseProcess | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a process that nobody has seen end."""
        return self._process is not None

    @property
    def sentinel(self) -> int:
        """What becomes ready when the process ends."""
        assert self._process is not None
        return self._process.sentinel

    def start(self) -> None:
        """Start a process for this worker."""
        self._log_size = self._log.stat().st_size if self._log.exists() else 0
        self._process = multiprocessing.Process(
            target=_enter, args=(self._part, self._plan, self.name)
        )
        self._process.start()

    def kill(self) -> bool:
        """Kill the process; false if it was not killed, since it had ended by itself."""
        process = self._process
        if process is None:
            return False
        process.kill()
        process.join()
        if process.exitcode in (0, 1):
            return False  # it was faster: the next wait finds out why
        self._let_go()
        return True

    def left_unanswered(self) -> bool:
        """Say whether the killed process had sent a write and not heard of it."""
        return self._said_something() and self._is_unanswered()

    def was_in_a_turn(self) -> bool:
        """Say whether the killed process was in the middle of a turn."""
        return False

    def _said_something(self) -> bool:
        """Say no if it was killed before: the last line is of an earlier life."""
        return self._log.exists() and self._log.stat().st_size != self._log_size

    def _is_unanswered(self) -> bool:
        return isinstance(acknowledgements.last_line(self._log), acknowledgements.Sent)

    def failure(self) -> str | None:
        """Take leave of a process that ended by itself; say what went wrong, if anything did."""
        process = self._process
        assert process is not None
        process.join()
        code = process.exitcode
        self._let_go()
        if code == 0:
            return None
        said = _errors(self._plan, self.name).read_text("utf-8").strip().splitlines()
        return f"{self.name} ended with {code}: {said[-1] if said else 'it said nothing'}"

    def _let_go(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


class _Streamer(_Child):
    """A worker whose log is one of turns."""

    def was_in_a_turn(self) -> bool:
        return self._said_something() and turnlog.read_turns(self._log).began

    def _is_unanswered(self) -> bool:
        return turnlog.read_turns(self._log).open is not None


def _enter(part: Part, plan: Plan, name: str) -> None:
    """Be a worker: what it says when it fails goes to a file of its own."""
    file = os.open(_errors(plan, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 2)
    part(plan, name)


def _errors(plan: Plan, name: str) -> Path:
    return Path(plan.folder, f"{name}.errors")


if __name__ == "__main__":
    main()
