"""A race on each store that many processes can reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.races.race import Race


@pytest.fixture
def race(url: str, tmp_path: Path) -> Iterator[Race]:
    """A race that nobody has entered yet."""
    with Race(url, tmp_path) as race:
        yield race
