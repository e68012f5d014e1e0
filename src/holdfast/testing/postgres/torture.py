"""The long storms over PostgreSQL servers that are killed, for people: `make torture-postgres`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from holdfast.testing.postgres.failovers import Failovers
from holdfast.testing.postgres.server import Server
from holdfast.testing.torture import Crashes, Plan, Progress, Report, storm

CRASH_EVERY_S = 2.0
FAILOVER_EVERY_S = 4.0
TAKES_S = 2.0
"""How long a server takes to come back, or a replica to be made, roughly."""


def main() -> int:
    """Run both storms and say what came of them: 0 if every promise was kept, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m holdfast.testing.postgres.torture", description=__doc__
    )
    parser.add_argument("--crashes", type=int, default=100, help="kills of a server (100)")
    parser.add_argument("--failovers", type=int, default=20, help="failovers to a replica (20)")
    parser.add_argument("--seed", type=int, help="who is killed when (random, and shown)")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix="holdfast-torture-"))
    kept = [
        _crash(folder / "crashes", seed, given.crashes),
        _fail_over(folder / "failovers", seed, given.failovers),
    ]
    return 0 if all(kept) else 1


def _crash(folder: Path, seed: int, wanted: int) -> bool:
    with Server.start(folder / "server") as server:
        crashes = Crashes(server, CRASH_EVERY_S)
        seconds = wanted * (CRASH_EVERY_S + TAKES_S)
        report = _storm(server.url, folder, seed, seconds, crashes.look)
    return _tell(f"{crashes.count} kills of the server", report)


def _fail_over(folder: Path, seed: int, wanted: int) -> bool:
    with Failovers(folder, every_s=FAILOVER_EVERY_S, most=wanted) as failovers:
        seconds = wanted * (FAILOVER_EVERY_S + TAKES_S)
        report = _storm(failovers.url, folder, seed, seconds, failovers.look)
    return _tell(f"{failovers.count} failovers", report)


def _storm(
    url: str, folder: Path, seed: int, seconds: float, look: Callable[[Progress], None]
) -> Report:
    return storm(Plan(url=url, folder=str(folder / "logs"), seed=seed, seconds=seconds), look)


def _tell(what: str, report: Report) -> bool:
    sys.stdout.write(f"{what}, seed {report.plan.seed}\n{report.in_words()}\n")
    return not report.broken


if __name__ == "__main__":
    sys.exit(main())
