"""One store in the comparison: its workers, what is known about it, and what was measured."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.crew import PeerFailed, Program, Worker
from benchmarks.environments import NotInstalled, environment

Values = dict[str, float]
QUOTED = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer as it is chosen: its name, its module, and what its environment has to contain.

    Without `requirements` it is measured by this very Python.
    """

    name: str
    module: str
    requirements: Path | None


@dataclass(slots=True)
class Contender:
    """An entry in a run. Once it has failed it is left alone, and its failure is reported."""

    entry: Entry
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: list[Values] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failure: str | None = None
    _program: Program | None = None
    _workers: list[Worker] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its name for people."""
        return str(self.facts.get("title", self.entry.name))

    @property
    def lacks(self) -> frozenset[str]:
        """What it has no call for."""
        return frozenset(self.facts.get("lacks", ()))

    def values(self, key: str) -> list[float]:
        """Return what each round gave."""
        return [found[key] for found in self.rounds if key in found]

    def note(self, key: str, value: float) -> None:
        """Keep a value of the round that is being made."""
        self.rounds[-1][key] = value

    def remark(self, text: str) -> None:
        """Keep what a reader of the figures should be told, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Take note if the peer fails here, and end its workers."""
        try:
            yield
        except (PeerFailed, NotInstalled) as error:
            self.failure = f"{what}: {error}"
            self.end()

    def start(
        self, environments: Path, texts: Path, scratch: Path, search: tuple[Path, ...]
    ) -> None:
        """Install it if it is not installed, start its first worker, and ask what it is."""
        python = Path(sys.executable)
        if self.entry.requirements is not None:
            python = environment(self.entry.requirements, environments / self.entry.name)
        scratch.mkdir()
        self._program = Program(python, self.entry.module, texts, scratch, search)
        self.facts = self.worker().ask("hello")

    def worker(self, number: int = 0) -> Worker:
        """Return a worker, started if it is not there yet."""
        assert self._program is not None
        while len(self._workers) <= number:
            self._workers.append(Worker(self._program, len(self._workers)))
        return self._workers[number]

    def ask(self, do: str, /, **arguments: object) -> dict[str, Any]:
        """Ask the first worker."""
        return self.worker().ask(do, **arguments)

    def importing_s(self, statement: str) -> float:
        """Return the seconds that its Python takes to carry out a statement."""
        program = self._program
        assert program is not None
        started = time.perf_counter()
        done = subprocess.run(
            [str(program.python), "-P", "-c", statement],
            cwd=program.scratch,
            env=program.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        took = time.perf_counter() - started
        if done.returncode != 0:
            raise PeerFailed(f"{statement}: {done.stdout[-QUOTED:].strip()}")
        return took

    def end(self) -> None:
        """End its workers."""
        while self._workers:
            self._workers.pop().end()
