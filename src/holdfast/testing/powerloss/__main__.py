"""Power failures, for people: `make torture-power` or `python -m holdfast.testing.powerloss`."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys

from holdfast.testing.powerloss.campaign import SOUND, Plan, run
from holdfast.testing.powerloss.connection import Setting
from holdfast.testing.powerloss.report import Report, Tally


def main() -> int:
    """Try crash states and say what came of them: 0 if every promise was kept, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m holdfast.testing.powerloss", description=__doc__
    )
    parser.add_argument("--states", type=_count, default=1_000_000, help="how many (1000000)")
    parser.add_argument("--seed", type=int, help="where to begin (random, and shown)")
    parser.add_argument("--processes", type=_count, default=os.cpu_count() or 1, help="one a core")
    parser.add_argument(
        "--setting",
        choices=[setting.value for setting in Setting],
        help="how SQLite works: wal or journal (by turns), or with a planted fault",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    plan = Plan(
        seed=random.randrange(10**6) if given.seed is None else given.seed,
        states=given.states,
        settings=(Setting(given.setting),) if given.setting else SOUND,
        processes=given.processes,
    )
    try:
        report = run(plan, _show)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        return 130
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    sys.stdout.write(json.dumps(report.to_dict()) + "\n" if given.json else _in_words(report))
    return 1 if report.broken else 0


def _show(tally: Tally) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(
            f"\r{tally.states:,} power failures  {tally.acknowledged:,} calls acknowledged"
            f"  {tally.broken:,} lost "
        )
        sys.stderr.flush()


def _in_words(report: Report) -> str:
    values = report.to_dict()
    broken = values.pop("broken")
    lines = [f"{name:<18} {_plain(value)}" for name, value in values.items()]
    lines += [f"BROKEN: {what}" for what in broken] or ["every promise was kept"]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


if __name__ == "__main__":
    sys.exit(main())
