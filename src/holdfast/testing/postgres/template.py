"""A new data folder, made once a process and copied from then on.

initdb takes half a second and a copy a tenth of that. Neither is synced: a test's data need not
survive the machine. The server that runs on it does sync.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from functools import cache
from pathlib import Path

from holdfast.testing.postgres import guard, programs

_lock = threading.Lock()


def make_data_folder(data: Path) -> None:
    """Make the data folder of a new server: UTF-8, the C locale, and everybody is trusted."""
    with _lock:
        template = _template()
    programs.copy_folder(template, data)


@cache
def _template() -> Path:
    parent = Path(tempfile.mkdtemp(prefix="holdfast-postgres-"))
    guard.watch_folder(parent)
    try:
        data = parent / "data"
        programs.make_folder(data)
        programs.run(
            "initdb",
            f"--pgdata={data}",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
    except BaseException:
        shutil.rmtree(parent)
        raise
    return data
