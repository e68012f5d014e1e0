"""Ctrl-C at every step of what a store does: nothing stays taken, queued or under way."""

from __future__ import annotations

import re
from pathlib import Path

import holdfast

NO_END_S = 20.0
"""What has not happened after so long never will."""


def test_conditions_are_not_entered() -> None:
    """A condition's lock is: entering and leaving the condition itself is Python, as Ctrl-C is."""
    for file in Path(holdfast.__file__).parent.rglob("*.py"):
        text = file.read_text("utf-8")
        for name in re.findall(r"(\w+) = threading\.Condition\(", text):
            assert not re.search(rf"with (self\.)?{name}\b", text), f"{name} in {file}"
