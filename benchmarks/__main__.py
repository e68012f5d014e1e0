"""`make bench`: measures Holdfast against the machine's own limit, in the same run.

Every ratio is a median of rounds, and each round measures the limit next to Holdfast, so that both
see the same disk and the same neighbours; `peers` has other stores in the same rounds too. It is a
measurement, not a test: a target that is missed is shown, and only what could not run at all fails.
A peer that cannot be installed or measured fails it too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import click
from benchmarks import processes, reading, rewriting, searching, starting, storing, turning, writing
from benchmarks.comparison import NAME as COMPARISON
from benchmarks.comparison import PEERS, Comparison
from benchmarks.figures import Ground, Measurement
from benchmarks.machine import machine
from benchmarks.report import Result, disk_spread, json_text, markdown, terminal_table, write_into
from benchmarks.standings import (
    standings_json,
    standings_markdown,
    terminal_tables,
    uses_markdown,
    write_picture,
)
from rich.console import Console

MEASUREMENTS: dict[str, Measurement] = {
    measurement.name: measurement
    for group in (writing, turning, processes, reading, storing, rewriting, searching, starting)
    for measurement in group.MEASUREMENTS
}
ROUNDS = 7
QUICK_ROUNDS = 3
WIDE = 160
STEADY = 1.5
QUICK_SHARE = 0.25
RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Few short rounds, to see that it works.")
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([*MEASUREMENTS, COMPARISON]),
    help="Measure this alone; may be given again.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice([entry.name for entry in PEERS]),
    help="Compare with this peer alone; may be given again.",
)
@click.option("--rounds", type=click.IntRange(min=1), help=f"Rounds of each; {ROUNDS}.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the files are made: the disk that is measured. By default this checkout's.",
)
@click.option("--write-readme", is_flag=True, help="Put the table into README.md.")
def main(
    *,
    quick: bool,
    names: tuple[str, ...],
    peers: tuple[str, ...],
    rounds: int | None,
    folder: Path | None,
    write_readme: bool,
) -> None:
    """Measure, show the figures, and write them into benchmarks/results."""
    is_partial = quick or bool(names or peers)
    if write_readme and is_partial:
        raise click.UsageError("only a full run's figures go into README.md")
    console = Console(stderr=True)
    compared = [entry for entry in PEERS if not peers or entry.name in peers]
    comparison = Comparison(compared, say=console.print)
    everything = MEASUREMENTS | {COMPARISON: comparison.measurement}
    chosen = [everything[name] for name in names or everything]
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=folder or RESULTS) as root:
        ground = Ground(Path(root), QUICK_SHARE if quick else 1.0)
        about = machine(ground.root)
        results = _measured(chosen, ground, rounds, console)
    screen = Console(width=None if sys.stdout.isatty() else WIDE)
    screen.print(terminal_table(results))
    if (spread := disk_spread(results)) > STEADY:
        console.print(
            f"the disk's own rate varied {spread:.1f}-fold: others were busy here, so measure again"
        )
    kind = "partial" if is_partial else "latest"
    picture = RESULTS / ("partial.svg" if is_partial else "peers.svg")
    tables = [markdown(results, about)]
    readme = list(tables)
    contenders = comparison.contenders if not names or COMPARISON in names else []
    if contenders:
        for table in terminal_tables(contenders):
            screen.print(table)
        write_picture(contenders, picture)
        tables += [standings_markdown(contenders, picture.name), uses_markdown(contenders)]
        readme.append(standings_markdown(contenders, f"benchmarks/results/{picture.name}"))
    for title, failure in comparison.failures.items():
        console.print(f"{title} failed: {failure}", markup=False)
    (RESULTS / f"{kind}.json").write_bytes(json_text(results, about, standings_json(contenders)))
    (RESULTS / f"{kind}.md").write_text("\n".join(tables), "utf-8")
    console.print(f"written: benchmarks/results/{kind}.json and {kind}.md")
    if write_readme:
        write_into(README, "\n".join(readme))
    sys.exit(0 if len(results) == len(chosen) and not comparison.failures else 1)


def _measured(
    chosen: Sequence[Measurement], ground: Ground, rounds: int, console: Console
) -> list[Result]:
    """Run the measurements; one that cannot run is reported and left out."""
    results: list[Result] = []
    for number, measurement in enumerate(chosen, 1):
        where = f"{number} of {len(chosen)}: {measurement.name}"
        found = []
        try:
            with (
                console.status(f"{where}, preparing") as status,
                closing(measurement.rounds(ground)) as source,
            ):
                for done in islice(source, rounds):
                    found.append(done)
                    status.update(f"{where}, round {len(found)} of {rounds} done")
        except Exception:  # noqa: BLE001 - a worker's loop: the other figures are worth having
            console.print_exception()
            console.print(f"{where}: could not run")
            continue
        results.append(Result(measurement, found))
        console.print(f"{where}: {len(found)} rounds")
    return results


if __name__ == "__main__":
    main()
