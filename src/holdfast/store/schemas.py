"""What leads from one version of a schema to the next: the scripts in a backend's folder `schema`.

`NNN_name.before.sql` only adds, so the code of the version before goes on working beside the new
one; `NNN_name.after.sql` takes away what only the old code needed.
"""

from __future__ import annotations

import functools
from pathlib import Path

from msgspec import Struct


class Step(Struct, frozen=True):
    """What leads from one version of the schema to the next; a script may be empty."""

    version: int
    before: str
    after: str


@functools.cache
def schema_steps(folder: Path) -> tuple[Step, ...]:
    """Return the steps from nothing to the newest schema, in order."""
    scripts: dict[int, dict[str, str]] = {}
    for file in folder.glob("*.sql"):
        name, when, _ = file.name.split(".")
        scripts.setdefault(int(name[:3]), {})[when] = file.read_text("utf-8")
    return tuple(
        Step(version, found.get("before", ""), found.get("after", ""))
        for version, found in sorted(scripts.items())
    )
