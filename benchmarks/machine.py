"""What was measured on: enough to compare runs, nothing that says whose machine it is."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from pathlib import Path

import msgspec

import holdfast

Machine = dict[str, str | int]


def machine(root: Path) -> Machine:
    """Return what a reader of the figures has to know about the machine and the disk of `root`."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(root),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "msgspec": msgspec.__version__,
        "holdfast": holdfast.__version__,
        "load when it began": _load(),
    }


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f}" if sys.platform != "win32" else "unknown"


def _file_system(folder: Path) -> str:
    """Return the type of the mount that is nearest above `folder`."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    except OSError:
        return "unknown"
    folder = folder.resolve()
    nearest = ("", "unknown")
    for mount in mounts:
        _, point, kind, *_ = mount.split(" ")
        if folder.is_relative_to(point) and len(point) >= len(nearest[0]):
            nearest = (point, kind)
    return nearest[1]
