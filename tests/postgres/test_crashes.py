"""A server that is killed under load, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.testing.postgres import Server
from holdfast.testing.torture import Crashes, Plan, Progress, storm

CRASHES = 5


@pytest.mark.timeout(150)
def test_a_storm_over_a_server_that_is_killed(tmp_path: Path) -> None:
    """Five kills of the server, among kills of workers, lose, double and move nothing.

    Nobody's call fails: writes and reads wait for the server to come back.
    """
    with Server.start(tmp_path / "server") as server:
        crashes = Crashes(server, every_s=1.0)

        def look(progress: Progress) -> None:
            if crashes.count < CRASHES:
                crashes.look(progress)

        plan = Plan(
            url=server.url, folder=str(tmp_path / "logs"), seed=5, seconds=CRASHES * 4, kills=30
        )
        report = storm(plan, look)
    assert report.broken == []
    assert crashes.count == CRASHES
    assert report.progress.kills >= 30
