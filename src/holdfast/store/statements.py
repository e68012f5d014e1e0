"""Reads files of named SQL statements: `-- name: what it is for.`, then the statement."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^-- (\w+): .*\n((?:(?!^-- \w+: ).*\n?)*)", re.MULTILINE)


def named_statements(file: Path) -> dict[str, str]:
    """Return a file's statements by name, without the semicolons at their ends."""
    text = file.read_text("utf-8")
    return {name: body.strip().removesuffix(";") for name, body in _BLOCK.findall(text)}
