"""`holdfast demo`: kill, race and rewrite against a real store, then count what is left.

The storm itself is `holdfast.testing.torture`; here is how it is shown. The result goes to stdout
and everything else to stderr; nothing moves where stderr is no terminal.
"""

from __future__ import annotations

import math
import random
import shlex
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.demo_store import DemoStore, demo_store
from holdfast.cli.options import settings_of
from holdfast.cli.printing import print_json, print_rich, say
from holdfast.cli.program import DONE, FAILED, INTERRUPTED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from holdfast.testing.torture import Plan, Progress, Report

_BAR_WIDTH = 50
_TEXT_WIDTH = 78
_DONE = "bold"


def _finite(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which is within every range
        raise click.BadParameter("not a number of seconds")
    return value


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(1, 86_400),
    default=10.0,
    show_default=True,
    callback=_finite,
    help="How long to go on.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many processes add messages.",
)
@click.option("--seed", type=click.IntRange(0), help="Decides who is killed when.")
@click.option(
    "--naive",
    is_flag=True,
    help="Save histories as many programs do, without saying what was loaded: this loses messages.",
)
@click.option(
    "--postgres",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Use a PostgreSQL server: one of its own, which is killed as well, or the one named.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def demo(
    context: click.Context,
    seconds: float,
    workers: int,
    seed: int | None,
    postgres: str | None,
    *,
    naive: bool,
    as_json: bool,
) -> None:
    """Kill workers while they write, and show that nothing is lost.

    Several processes write, save and rewrite the same conversations in a fresh SQLite file, and
    stream turns; they are killed with SIGKILL at random moments. Afterwards every message that the
    store acknowledged, and all text that a follower was shown, is looked for. The file is left for
    you to look at. With --postgres a server is started from a wheel, with nothing to install, and
    killed again and again; on a server that is named, a schema is made and removed.

    Exits with 0 if every promise was kept, with 1 if one was broken.

    Example: holdfast demo --seconds 30 --workers 8
    """
    settings = settings_of(context)
    if settings.url is not None or settings.tenant is not None:
        raise click.UsageError("the demo makes a store of its own: leave --store and --tenant out")
    from holdfast.testing.torture import Plan, storm

    folder = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        with demo_store(folder, postgres) as store:
            plan = Plan(
                url=store.url,
                folder=str(folder / "logs"),
                seed=random.randrange(1_000_000) if seed is None else seed,
                seconds=seconds,
                writers=workers,
                naive=naive,
            )
            with _live(plan, store) as show:
                report = storm(plan, show)
    except KeyboardInterrupt:
        say(f"Stopped early. Every process of the demo has ended; its files are left in\n{folder}")
        context.exit(INTERRUPTED)
    if as_json or settings.as_json:
        print_json(_values(report, store))
    else:
        _print_result(report, store)
    context.exit(FAILED if report.broken else DONE)


def _values(report: Report, store: DemoStore) -> dict[str, Any]:
    values = report.to_dict()
    if store.crashes is not None:
        values["server_kills"] = store.crashes.count
    return {**values, "look": _commands(report) if store.stays else []}


@contextmanager
def _live(plan: Plan, store: DemoStore) -> Iterator[Callable[[Progress], None]]:
    """Say what happens, and give a function that shows how far it is, where somebody watches."""
    from rich.console import Console
    from rich.live import Live

    def crash(progress: Progress) -> None:
        if store.crashes is not None:
            store.crashes.look(progress)

    console = Console(stderr=True, highlight=False)
    say(_what_happens(plan, store))
    if not sys.stderr.isatty():  # rich would also count FORCE_COLOR
        yield crash
        return
    # No thread of rich's own: the storm tells often enough.
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(progress: Progress) -> None:
            live.update(_moment(plan, progress), refresh=True)
            crash(progress)

        yield show


def _what_happens(plan: Plan, store: DemoStore) -> str:
    writing = "load, change and save" if plan.naive else "write into"
    told = (
        f"For {plan.seconds:g} seconds, {plan.writers + plan.savers} processes {writing} the same "
        f"conversations {store.words}, one rewrites them, and {plan.readers} read them; "
        f"{plan.streamers} stream turns, and one follows these. "
        "Those who write are killed with SIGKILL at random moments, and started again."
    )
    if plan.naive:
        told += " As in many programs, none says which state it had loaded."
    return textwrap.fill(told, _TEXT_WIDTH)


def _moment(plan: Plan, progress: Progress) -> RenderableType:
    """Return what somebody who watches sees just now."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    done = min(progress.elapsed_s, plan.seconds)
    state = (
        "looking for every message" if progress.checking else f"{done:.0f} of {plan.seconds:g} s"
    )
    head = Table.grid(padding=(0, 2))
    head.add_row(ProgressBar(plan.seconds, done, width=_BAR_WIDTH), state)
    counts = Table.grid(padding=(0, 2))
    counts.add_column(justify="right", style="bold", min_width=9)
    counts.add_column()
    for count, what in (
        (progress.acknowledged, "messages acknowledged"),
        (progress.kills, f"kills, {progress.unanswered:,} of them in the middle of a write"),
        (progress.saves, "saves of a whole history"),
        (progress.rewrites, "rewrites of a whole history"),
        (progress.reads, f"reads, {progress.empty_reads:,} saw an empty history"),
        (progress.turns_done, f"turns completed, {progress.cut:,} kills hit one in mid-stream"),
        (progress.pieces, "pieces of streamed text shown to a follower"),
    ):
        counts.add_row(f"{count:,}", what)
    return Group("", head, "", counts)


def _print_result(report: Report, store: DemoStore) -> None:
    from rich.text import Text

    print_rich("", _table(report, store), "")
    if report.broken:
        print_rich(Text(f"Broken: {'; '.join(report.broken)}.", style="bold red"))
    else:
        found = report.findings
        all_there = f"all {found.acknowledged:,} messages are there once and in order"
        resumed = f"all {found.turns.started:,} turns completed"
        print_rich(Text(f"Every promise was kept: {all_there}, {resumed}.", style="bold green"))
    if report.plan.naive:
        print_rich(_moral(report))
    if not store.stays:
        return
    print_rich("\nSee for yourself what it left:")
    for command in _commands(report):
        print_rich(Text(f"  {command}", style="cyan", no_wrap=True, overflow="ignore"))


def _moral(report: Report) -> str:
    if report.findings.lost:
        return (
            "This is what load-modify-save without a base loses; without --naive nothing is lost."
        )
    return "Nothing was lost this time: give it more --seconds or --workers."


def _table(report: Report, store: DemoStore) -> RenderableType:
    """Return the verdict: a line for each promise, red where it was broken."""
    from rich.table import Table
    from rich.text import Text

    found, progress = report.findings, report.progress
    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column(no_wrap=True)
    drawn.add_column(justify="right", no_wrap=True)
    drawn.add_column(style="dim")
    promised = (
        ("lost", found.lost, "acknowledged, and not there any more"),
        (
            "doubled",
            found.doubled,
            f"{progress.replayed:,} sent twice, written once",
        ),
        ("out of order", found.out_of_order + found.moved, "every writer's own order"),
        ("reads that saw an empty history", progress.empty_reads, f"of {progress.reads:,} reads"),
        ("reads that lacked messages", progress.partial_reads, "seen by the same reader before"),
    )
    rows = [
        ("acknowledged", found.acknowledged, "the store said: it is written", _DONE),
        ("found", found.found, "of these, afterwards, in the store", _DONE),
        *((name, n, note, _style(n)) for name, n, note in promised),
        ("kills", progress.kills, _hits(progress), _DONE),
        *_crash_rows(store),
        ("saves of a whole history", progress.saves, "by several processes at once", _DONE),
        ("rewrites of a whole history", progress.rewrites, "while others wrote and read it", _DONE),
    ]
    for name, count, note, style in [*rows, *_turn_rows(report)]:
        drawn.add_row(name, Text(f"{count:,}", style), note)
    drawn.add_row("seed", str(report.plan.seed), "decides who is killed when")
    return drawn


def _crash_rows(store: DemoStore) -> list[tuple[str, int, str, str]]:
    if store.crashes is None:
        return []
    note = "of the PostgreSQL server, under all of this"
    return [("kills of the server", store.crashes.count, note, _DONE)]


def _turn_rows(report: Report) -> list[tuple[str, int, str, str]]:
    turns, progress = report.findings.turns, report.progress
    left = turns.unresumed + turns.unfinished
    promised = (
        ("turns cut off or not whole", left, "every one was resumed to its end"),
        ("turns at the same time", turns.overlapping, "in one conversation"),
        ("prompts doubled", turns.prompts_doubled, "each resumed turn was sent twice or more"),
        ("text shown and missing", turns.missing, f"of {turns.shown:,} pieces a follower saw"),
        (
            "usage counted wrongly",
            turns.miscounted,
            f"of {turns.calls:,} model calls, {turns.unknown:,} of them cut off",
        ),
    )
    return [
        ("turns started", turns.started, "streamed by several processes", _DONE),
        ("turns completed", turns.completed, "of these, after all", _DONE),
        ("turns interrupted", turns.interrupted, f"{progress.cut:,} kills in mid-stream", _DONE),
        *((name, n, note, _style(n)) for name, n, note in promised),
    ]


def _style(broken: int) -> str:
    return "bold red" if broken else "bold green"


def _hits(progress: Progress) -> str:
    return f"{progress.unanswered:,} hit a write sent and unanswered"


def _commands(report: Report) -> list[str]:
    """Return how to look at what the demo left."""
    program = "holdfast" if shutil.which("holdfast") else shlex.quote(sys.argv[0])
    start = f"{program} --store {shlex.quote(report.plan.url)} session"
    commands = [f"{start} list", f"{start} show {shlex.quote(report.findings.longest)}"]
    resumed = report.findings.turns.resumed
    return [*commands, *([f"{start} show {resumed} --turns"] if resumed else [])]
