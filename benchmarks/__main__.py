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
from benchmarks.contender import Entry
from benchmarks.figures import Ground, Measurement
from benchmarks.machine import machine
from benchmarks.postgres import NAME as COMPETITION
from benchmarks.postgres import PEERS as SERVER_PEERS
from benchmarks.postgres import Competition
from benchmarks.report import Result, disk_spread, json_text, markdown, terminal_table, write_into
from benchmarks.standings import (
    server_markdown,
    server_summary_markdown,
    standings_json,
    standings_markdown,
    summary_markdown,
    terminal_server_table,
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
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Few short rounds, to see that it works.")
@click.option(
    "--only",
    "names",
    multiple=True,
    type=click.Choice([*MEASUREMENTS, COMPARISON, COMPETITION]),
    help="Measure this alone; may be given again.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice([entry.name for entry in (*PEERS, *SERVER_PEERS)]),
    help="Compare with this peer alone; may be given again.",
)
@click.option("--rounds", type=click.IntRange(min=1), help=f"Rounds of each; {ROUNDS}.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the files are made: the disk that is measured. By default this checkout's.",
)
@click.option(
    "--write-readme",
    is_flag=True,
    help="Put the figures into docs/explanation/benchmarks.md, and a summary into README.md.",
)
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
        raise click.UsageError("only a full run's figures go into the docs")
    console = Console(stderr=True)
    comparison = Comparison(_chosen(PEERS, peers), say=console.print)
    competition = Competition(_chosen(SERVER_PEERS, peers), say=console.print)
    everything = MEASUREMENTS | {
        COMPARISON: comparison.measurement,
        COMPETITION: competition.measurement,
    }
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
    summary = []
    contenders = comparison.contenders if not names or COMPARISON in names else []
    if contenders:
        for table in terminal_tables(contenders):
            screen.print(table)
        write_picture(contenders, picture)
        tables += [standings_markdown(contenders), uses_markdown(contenders)]
        summary.append(summary_markdown(contenders, f"benchmarks/results/{picture.name}"))
    rivals = competition.contenders if competition.server else []
    if rivals:
        screen.print(terminal_server_table(rivals))
        tables += [server_markdown(rivals, competition.server), uses_markdown(rivals)]
        summary.append(server_summary_markdown(rivals))
    failures = comparison.failures | competition.failures
    for title, failure in failures.items():
        console.print(f"{title} failed: {failure}", markup=False)
    known = standings_json([*contenders, *rivals])
    (RESULTS / f"{kind}.json").write_bytes(json_text(results, about, known))
    (RESULTS / f"{kind}.md").write_text("\n".join(tables), "utf-8")
    console.print(f"written: benchmarks/results/{kind}.json and {kind}.md")
    if write_readme:
        write_into(README, "\n".join(summary))
        write_into(PAGE, "\n".join(tables))
    sys.exit(0 if len(results) == len(chosen) and not failures else 1)


def _chosen(entries: Sequence[Entry], names: tuple[str, ...]) -> list[Entry]:
    return [entry for entry in entries if not names or entry.name in names]


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
