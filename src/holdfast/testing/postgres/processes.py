"""A server's processes, all of them at once: to freeze, to thaw and to kill.

The server's first process is the parent of all others. Once it stands still nobody new appears, so
the order is: stop it, list its children, then signal each.
"""

from __future__ import annotations

import time

import psutil

GONE_S = 30.0
"""How long killed processes may take to be gone."""

LOOK_S = 0.002
"""How long after a look at a process that is still there the next one follows."""


def freeze(pid: int) -> list[psutil.Process]:
    """Stop a process and its children (SIGSTOP); return them, the parent first.

    A process that is gone is none; it is no error.
    """
    try:
        parent = psutil.Process(pid)
        parent.suspend()
        while parent.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(LOOK_S)
        children = parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for child in children:
        try:
            child.suspend()
        except psutil.NoSuchProcess:
            continue
    return [parent, *children]


def thaw(pid: int) -> None:
    """Let a process and its children go on (SIGCONT)."""
    try:
        parent = psutil.Process(pid)
        processes = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.resume()
        except psutil.NoSuchProcess:
            continue


def kill(pid: int) -> None:
    """Kill a process and its children at one moment (SIGKILL), and wait until they are gone.

    One that nobody has waited for counts as gone: it holds no memory, no file and no port.
    """
    processes = freeze(pid)
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + GONE_S
    for process in processes:
        while not _is_gone(process):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{process} was killed {GONE_S:.0f} s ago and is still there")
            time.sleep(LOOK_S)


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
