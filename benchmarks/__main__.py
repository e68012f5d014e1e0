"""`make bench`: measures Holdfast against the machine's own limit, in the same run.

Every ratio is a median of rounds, and each round measures the limit next to Holdfast, so that both
see the same disk and the same neighbours. It is a measurement, not a test: a target that is missed
is shown, and only what could not run at all fails.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import click
from benchmarks import processes, reading, rewriting, searching, starting, storing, writing
from benchmarks.figures import Ground, Measurement
from benchmarks.machine import machine
from benchmarks.report import Result, disk_spread, json_text, markdown, terminal_table, write_into
from rich.console import Console

MEASUREMENTS: dict[str, Measurement] = {
    measurement.name: measurement
    for group in (writing, processes, reading, storing, rewriting, searching, starting)
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
    type=click.Choice(list(MEASUREMENTS)),
    help="Measure this alone; may be given again.",
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
    rounds: int | None,
    folder: Path | None,
    write_readme: bool,
) -> None:
    """Measure, show the figures, and write them into benchmarks/results."""
    if write_readme and (quick or names):
        raise click.UsageError("only a full run's figures go into README.md")
    console = Console(stderr=True)
    chosen = [MEASUREMENTS[name] for name in names or MEASUREMENTS]
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=folder or RESULTS) as root:
        ground = Ground(Path(root), QUICK_SHARE if quick else 1.0)
        about = machine(ground.root)
        results = _measured(chosen, ground, rounds, console)
    Console(width=None if sys.stdout.isatty() else WIDE).print(terminal_table(results))
    if (spread := disk_spread(results)) > STEADY:
        console.print(
            f"the disk's own rate varied {spread:.1f}-fold: others were busy here, so measure again"
        )
    text = markdown(results, about)
    kind = "partial" if quick or names else "latest"
    (RESULTS / f"{kind}.json").write_bytes(json_text(results, about))
    (RESULTS / f"{kind}.md").write_text(text, "utf-8")
    console.print(f"written: benchmarks/results/{kind}.json and {kind}.md")
    if write_readme:
        write_into(README, text)
    sys.exit(0 if len(results) == len(chosen) else 1)


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
