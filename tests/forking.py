"""Workers that are forked from one process which has imported what all of them need.

Most workers would import for longer than they work, and a run starts hundreds. Each is a process
of its own all the same: the one that they come from has one thread and never opens a store.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

PATIENCE_S = 120.0
_MULTIPROCESSING = multiprocessing.get_context("forkserver")
_MULTIPROCESSING.set_forkserver_preload(
    [
        "holdfast.agents.pydantic_ai",
        "pydantic_ai.models.openai",
        *(f"tests.{who}" for who in ("agents.worker", "races.worker", "turns.worker")),
        "tests.postgres.starter",
    ]
)


class Forked:
    """A worker process, as its parent talks to it: a line at a time."""

    def __init__(self, main: Callable[[Sequence[str]], None], name: str, words: list[str]) -> None:
        self.name = name
        self._heard = b""
        self._talk, theirs = socket.socketpair()
        self._talk.settimeout(PATIENCE_S)
        with theirs:
            self._process = _MULTIPROCESSING.Process(
                target=_be, args=(main, words, theirs), daemon=True
            )
            self._process.start()

    def tell(self, order: str) -> None:
        """Send a line."""
        self._talk.sendall(order.encode() + b"\n")

    def hear(self) -> str:
        """Return the next line; fail if the process is gone or says nothing."""
        while b"\n" not in self._heard:
            more = self._more()
            assert more, f"{self.name} ended with {self.ended()}"
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process where it stands."""
        self._process.kill()
        self.ended()

    def ended(self, patience_s: float = PATIENCE_S) -> int | None:
        """Wait for the end; return the exit code, or nothing if it did not come."""
        self._process.join(patience_s)
        return self._process.exitcode

    def finish(self) -> list[str]:
        """Wait for the end; return what was said until then."""
        self._talk.shutdown(socket.SHUT_WR)
        while more := self._more():
            self._heard += more
        code = self.ended()
        assert code == 0, f"{self.name} ended with {code}"
        return self._heard.decode().splitlines()

    def close(self) -> None:
        """Let nothing of it remain."""
        self.kill()
        self._process.close()
        self._talk.close()

    def _more(self) -> bytes:
        try:
            return self._talk.recv(65_536)
        except TimeoutError:
            raise AssertionError(f"{self.name} says nothing") from None
        except ConnectionResetError:
            return b""  # it ended without hearing all that it was told


def _be(main: Callable[[Sequence[str]], None], words: list[str], talk: socket.socket) -> None:
    """Be a worker: its parent is at standard input and output."""
    with talk:
        for standard in (0, 1):
            os.dup2(talk.fileno(), standard)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - until the process ends
    main(words)
