"""Programs that a test starts end with it, whatever becomes of the test.

One that is left behind is found by a later test, which then fails for it: Python warns of a process
that still runs when its object goes away, and of pipes that nobody closed.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any, AnyStr

_started: list[subprocess.Popen[Any]] = []


def started(process: subprocess.Popen[AnyStr]) -> subprocess.Popen[AnyStr]:
    """Return a process that has just been started, and that `end_all` is to end."""
    _started.append(process)
    return process


def end_all() -> None:
    """Kill what still runs, wait for it, and close the pipes to all that was started."""
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was never sent is given up
                    pipe.close()
