"""The long storm, for people: `make torture`, or `python -m holdfast.testing.torture`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.progress import Progress
from holdfast.testing.torture.storm import storm


def main() -> int:
    """Run a storm and say what came of it: 0 if every promise was kept, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.torture", description=__doc__)
    parser.add_argument("--kills", type=_count, default=1_000, help="at least that many (1000)")
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="at least that long (60)")
    parser.add_argument("--seed", type=int, help="who is killed when (random, and shown)")
    parser.add_argument("--writers", type=_count, default=4, help="processes that add (4)")
    parser.add_argument("--store", help="a store's address (a new file, which is left there)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="holdfast-torture-"))
    plan = Plan(
        url=given.store or str(folder / "torture.db"),
        folder=str(folder / "logs"),
        seed=random.randrange(10**6) if given.seed is None else given.seed,
        seconds=given.seconds,
        kills=given.kills,
        writers=given.writers,
    )
    try:
        report = storm(plan, _show)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstopped; every process has ended, and {folder} is left\n")
        return 130
    sys.stderr.write("\n")
    sys.stdout.write(json.dumps(report.to_dict()) + "\n" if given.json else report.in_words())
    return 1 if report.broken else 0


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(
            f"\r{progress.elapsed_s:6.1f} s  {progress.acknowledged:,} acknowledged"
            f"  {progress.kills:,} kills  {progress.rewrites:,} rewrites  {progress.reads:,} reads "
        )
        sys.stderr.flush()


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
