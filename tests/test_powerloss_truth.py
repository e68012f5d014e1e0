"""The recorder against the operating system: it records what an ordinary run does, call for call.

The same run is made twice: on the recorder, and by the ordinary driver, with ordinary locks and
a connection for each reader, while `strace` lists its system calls. This holds what the recorder
cannot see, and adds by rule, to the facts: the syncs of the folder.
"""

from __future__ import annotations

import functools
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, assert_never

import pytest

from holdfast.store.sqlite.connections import ConnectionFactory
from holdfast.testing.powerloss import Setting
from holdfast.testing.powerloss.disk import (
    Create,
    Operation,
    Sync,
    SyncFolder,
    Truncate,
    Unlink,
    Write,
)
from holdfast.testing.powerloss.recording import DATABASE
from holdfast.testing.powerloss.workload import Run, record

CALLS = "trace=fsync,fdatasync,unlink,ftruncate,pwrite64"
NOT_RECORDED = ("-shm", "-queue", "-write")


@functools.cache
def can_trace() -> bool:
    """Whether system calls can be listed here: there is strace, and it may."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to use it")
@pytest.mark.parametrize("setting", [Setting.WAL, Setting.JOURNAL])
def test_a_recording_is_what_the_system_was_asked(tmp_path: Path, setting: Setting) -> None:
    """Every write, cut, sync and unlink of an ordinary run is in the recording, in its order."""
    ordinary, folder = tmp_path / "ordinary", tmp_path / "recorded"
    ordinary.mkdir()
    folder.mkdir()
    listing = tmp_path / "calls"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-s", "200", "-o", str(listing), "-e", CALLS),
            *(sys.executable, __file__, str(ordinary), setting.value),
        ],
        check=True,
    )
    asked = list(_asked(listing.read_text("latin-1"), ordinary))
    assert asked == list(_recorded(record(1, setting, folder).operations))
    assert asked.count("sync folder") > 1


def _asked(listing: str, folder: Path) -> Iterator[str]:
    """Yield what the system calls did to the files of a folder."""
    place = re.escape(str(folder))
    on_file = re.compile(
        rf'(\w+)\(\d+<{place}(?:/([^>]*))?>(?:, ".*"\.*)?(?:, (\d+))?(?:, (\d+))?\)'
    )
    on_name = re.compile(rf'unlink\("{place}/([^"]*)"\)')
    for line in listing.splitlines():
        if found := on_name.search(line):
            if not found[1].endswith(NOT_RECORDED):
                yield f"unlink {found[1]}"
        elif found := on_file.search(line):
            call, name, first, second = found.groups()
            if name is None:
                yield "sync folder"
            elif name.endswith(NOT_RECORDED):
                continue
            elif call == "pwrite64":
                yield f"write {name} {second} {first}"
            elif call == "ftruncate":
                yield f"truncate {name} {first}"
            else:
                yield f"sync {name}"


def _recorded(operations: Sequence[Operation]) -> Iterator[str]:
    """Yield what was recorded, in the same words."""
    names: dict[int, str] = {}
    for operation in operations:
        match operation:
            case Create(name, file):
                names[file] = name
            case Write(file, offset, data):
                yield f"write {names[file]} {offset} {len(data)}"
            case Truncate(file, size):
                yield f"truncate {names[file]} {size}"
            case Sync(file):
                yield f"sync {names[file]}"
            case Unlink(name):
                yield f"unlink {name}"
            case SyncFolder():
                yield "sync folder"
            case _:
                assert_never(operation)


class _WithoutWal(sqlite3.Connection):
    """A connection to a file that cannot have a write-ahead log."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement, save for the one that asks for such a log."""
        return super().execute("SELECT 'delete'" if sql.endswith("= WAL") else sql, parameters)


def _ordinary(setting: Setting, pages: int) -> ConnectionFactory:
    kind = sqlite3.Connection if setting.has_wal else _WithoutWal

    def connect(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=kind
        )
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        return connection

    return connect


if __name__ == "__main__":
    run_folder, run_setting = Path(sys.argv[1]), Setting(sys.argv[2])
    Run(1, run_folder / DATABASE, functools.partial(_ordinary, run_setting), []).go(40)
