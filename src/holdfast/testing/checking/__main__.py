"""The history checker, for people: `make torture-history`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.testing.checking.plan import Plan
from holdfast.testing.checking.report import Report, check


def main() -> int:
    """Check one store, or both: 0 if every promise was kept, 1 if not, 2 if nothing was judged."""
    parser = argparse.ArgumentParser(
        prog="python -m holdfast.testing.checking", description=__doc__
    )
    parser.add_argument("--operations", type=_count, default=100_000, help="in all (100000)")
    parser.add_argument("--seed", type=int, help="what is tried (random, and shown)")
    parser.add_argument("--store", help="a new store's address (memory, then a new file)")
    parser.add_argument("--kills", type=_count, default=20, help="processes to kill (20)")
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    parser.add_argument("--json", action="store_true", help="print one JSON object a store")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="holdfast-checking-"))
    seed = random.randrange(10**6) if given.seed is None else given.seed
    urls = [given.store] if given.store else ["memory://", str(folder / "checked.db")]
    reports = []
    for number, url in enumerate(urls):
        plan = Plan(
            url=url,
            folder=str(folder / f"recording{number}"),
            seed=seed,
            operations=given.operations // len(urls),
            kills=given.kills,
            relaxed=given.durability == "relaxed",
        )
        try:
            reports.append(check(plan, _show))
        except HoldfastError as error:
            sys.stderr.write(f"{error}\nthe recording is in {plan.folder}\n")
            return 2
        sys.stdout.write(json.dumps(reports[-1].to_dict()) + "\n" if given.json else "")
        sys.stdout.write("" if given.json else _in_words(reports[-1]))
        sys.stdout.flush()
    if not all(report.judged for report in reports):
        return 2
    return 1 if any(report.broken for report in reports) else 0


def _show(step: str) -> None:
    sys.stderr.write(f"{step}\n")


def _in_words(report: Report) -> str:
    values = report.to_dict()
    broken = values.pop("broken")
    caught = len(values.pop("faults_caught"))
    outcomes = values.pop("outcomes")
    values["faults_caught"] = caught
    lines = [f"{name:<20} {_plain(value)}" for name, value in values.items()]
    lines += [f"  {name:<18} {_plain(value)}" for name, value in outcomes.items()]
    lines += [f"BROKEN: {what}" for what in broken] or ["every promise was kept"]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


if __name__ == "__main__":
    sys.exit(main())
