"""Worker processes as the driver sees them: started, asked, waited for, and ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ANSWER_S = 600.0
LINGER_S = 5.0
TAIL = 1_000


class PeerFailed(Exception):
    """A peer could not be installed or measured; the message says what happened."""


@dataclass(frozen=True, slots=True)
class Program:
    """How a peer's worker is started: a Python, a module, the texts, and where it may write."""

    python: Path
    module: str
    texts: Path
    scratch: Path
    search: tuple[Path, ...] = (ROOT,)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that its Python sees; its home is ours, so that it leaves nothing.

        Whatever ours is told, it may keep what it compiles: that was not done at installing.
        """
        kept = {
            name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
        }
        return kept | {
            "PYTHONPATH": os.pathsep.join(map(str, self.search)),
            "HOME": str(self.scratch),
        }


class Worker:
    """One worker process. A peer that raises, dies or does not answer is a `PeerFailed`."""

    def __init__(self, program: Program, number: int) -> None:
        self._log = program.scratch / f"worker-{number}.log"
        self._rest = b""
        command = [str(program.python), "-P", "-m", "benchmarks.peers.worker"]
        command += [program.module, str(program.texts)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=program.scratch,
                env=program.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ask(self, do: str, timeout_s: float = ANSWER_S, /, **arguments: object) -> dict[str, Any]:
        """Have a command carried out, and return what came of it."""
        self.tell(do, **arguments)
        return self.answer(timeout_s)

    def tell(self, do: str, /, **arguments: object) -> None:
        """Send a command without waiting for its answer."""
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            pipe.flush()
        except OSError:
            raise PeerFailed(self._last_words()) from None

    def answer(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Wait for the answer to the command that was sent first."""
        answer = json.loads(self._line(timeout_s))
        if "error" in answer:
            raise PeerFailed(answer["error"])
        found: dict[str, Any] = answer["ok"]
        return found

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                continue  # what was still to be written went to a process that is gone

    def _line(self, timeout_s: float) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        until = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise PeerFailed(f"no answer within {timeout_s:g} s")
            piece = os.read(pipe.fileno(), 1 << 16)
            if not piece:
                raise PeerFailed(self._last_words())
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _last_words(self) -> str:
        """End a process that closed its pipes, and quote what it said last."""
        try:
            code = self._process.wait(LINGER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        said = self._log.read_text("utf-8", errors="replace")[-TAIL:].strip()
        return f"the worker ended with {code}: {said or 'it said nothing'}"
