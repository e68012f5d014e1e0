"""A store in a file, for the tests that have none of their own kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast import SessionStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be made."""
    return tmp_path / "a.db"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    """A store with a file."""
    with holdfast.connect(path, durability="relaxed") as store:
        yield store
