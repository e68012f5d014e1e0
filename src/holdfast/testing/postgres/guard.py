"""Ends the servers of a process that is gone, however it went.

The guard is one process for each process that starts servers. It is told their folders through a
pipe, and the end of that pipe is the end of its owner: a SIGKILL ends it just as an orderly exit
does. Then it kills every server that still runs and removes the folders that nobody else knows.

A signal from the parent's death (PR_SET_PDEATHSIG) would be sent as soon as the *thread* ends that
started the server, and exists on Linux only.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from holdfast.testing.postgres import processes

END_S = 30.0
"""How long an orderly exit waits for the guard, at most."""

SERVER, FOLDER = "server", "folder"


def watch_server(data: Path) -> None:
    """Have the server of this data folder killed when the process ends, if it runs then."""
    _tell(SERVER, data)


def watch_folder(folder: Path) -> None:
    """Have a folder removed when the process ends."""
    _tell(FOLDER, folder)


@dataclass(frozen=True, slots=True)
class _Guard:
    """The guard of this process, or of the one that it was forked from."""

    owner: int
    process: subprocess.Popen[str]
    pipe: IO[str]


_guard: _Guard | None = None
_lock = threading.Lock()


def _tell(what: str, path: Path) -> None:
    global _guard  # noqa: PLW0603 # one guard a process, started when there is something to guard
    with _lock:
        if _guard is None or _guard.owner != os.getpid():
            _guard = _started()
        _guard.pipe.write(f"{what} {path}\n")
        _guard.pipe.flush()


def _started() -> _Guard:
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is meant for the owner
    )
    assert process.stdin is not None
    atexit.register(_take_leave)
    return _Guard(os.getpid(), process, process.stdin)


def _take_leave() -> None:
    if _guard is not None and _guard.owner == os.getpid():
        _guard.pipe.close()
        _guard.process.wait(END_S)


def _leave_to_parent() -> None:
    """Close the pipe in a forked child, which would keep its parent's servers alive otherwise."""
    if _guard is not None and not _guard.pipe.closed:
        _guard.pipe.close()
    _lock.release()


os.register_at_fork(
    before=_lock.acquire,
    after_in_parent=_lock.release,
    after_in_child=_leave_to_parent,
)


def main() -> None:
    """Read what is to be guarded from stdin; at its end, end it."""
    told = [line.rstrip("\n").split(" ", 1) for line in sys.stdin]
    for what, path in told:
        if what == SERVER:
            _end_server(Path(path))
    for what, path in told:
        if what == FOLDER:
            shutil.rmtree(path, ignore_errors=True)


def _end_server(data: Path) -> None:
    try:
        pid = int((data / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
        # The file of a killed server names a process that may by now be anybody's.
        is_ours = Path(psutil.Process(pid).cwd()).samefile(data)
    except (OSError, ValueError, psutil.Error):
        return
    if is_ours:
        processes.kill(pid)
