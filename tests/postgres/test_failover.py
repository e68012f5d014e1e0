"""A primary that is gone for good, and a synchronous replica that takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.testing.postgres import Failovers
from holdfast.testing.torture import Plan, storm

FAILOVERS = 2
EVERY_S = 3.0


@pytest.mark.timeout(180)
def test_a_storm_over_failovers(tmp_path: Path) -> None:
    """Two failovers under load lose nothing that was acknowledged, and nobody is started anew."""
    with Failovers(tmp_path, every_s=EVERY_S, most=FAILOVERS) as failovers:
        plan = Plan(
            url=failovers.url,
            folder=str(tmp_path / "logs"),
            seed=3,
            seconds=FAILOVERS * EVERY_S + 8,
            kills=20,
        )
        report = storm(plan, failovers.look)
    assert report.broken == []
    assert failovers.count == FAILOVERS
