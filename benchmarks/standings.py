"""The comparison's tables and its plot: who was measured, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contender import Contender
from benchmarks.contests import DISK_TURNS, LAST, LENGTHS, PROCESSES, REWRITTEN
from benchmarks.peers.protocol import NEWEST, REPLACE, TASKS, THREADS
from benchmarks.plot import Bar, Panel, svg
from benchmarks.report import number
from rich.table import Table

NONE, FAILED = "no such call", "failed"


@dataclass(frozen=True, slots=True)
class Column:
    """A quantity as a table shows it. Without the `call` that it needs a peer shows none."""

    heading: str
    key: str
    unit: str = ""
    call: str | None = None

    def cell(self, each: Contender) -> str:
        """Return the median of the rounds with their spread."""
        values = each.values(self.key)
        if self.call in each.lacks or not values:
            return self.middle(each)
        low, high = number(min(values)), number(max(values))
        spread = "" if low == high else f" ({low}-{high})"
        return f"{self.middle(each)}{spread}"

    def middle(self, each: Contender) -> str:
        """Return the median of the rounds alone."""
        if self.call in each.lacks:
            return NONE
        values = each.values(self.key)
        return f"{number(median(values))}{self.unit}" if values else FAILED


ONE_CALLER = (
    *(Column(f"{length:,} messages, x raw", f"append_{length}") for length in LENGTHS),
    Column("bytes on disk a byte", "disk"),
    Column("import, ms", "import_ms"),
)
READING = (
    Column(f"read {LENGTHS[-1]:,}, ms", "read_ms"),
    Column("x Holdfast", "read_ratio"),
    Column(f"last {LAST}, ms", "last_ms"),
    Column(f"newest {LAST} sessions, ms", "newest_ms", call=NEWEST),
    Column("of sessions", "sessions", call=NEWEST),
)
STORM = (
    Column("turns", "storm_turns"),
    Column("refused", "storm_refused"),
    Column("messages lost", "storm_lost"),
    Column("doubled", "storm_doubled"),
    Column("turns torn apart", "storm_apart"),
    Column("half there", "storm_halves"),
    Column("longest wait, ms", "storm_longest_ms"),
)
REWRITING = (
    Column("rewrites a second", "rewrites_a_second", call=REPLACE),
    Column("reads", "reads", call=REPLACE),
    Column("empty", "reads_empty", " %", call=REPLACE),
    Column("partial", "reads_partial", " %", call=REPLACE),
    Column("errors", "rewrite_errors", call=REPLACE),
)
TABLES = {
    "One caller, and what it costs": ONE_CALLER,
    "Reading, and listing sessions": READING,
    f"{PROCESSES} processes add to one session": STORM,
    f"{REWRITTEN:,} messages are replaced under two readers": REWRITING,
}
SUMMARY = (
    Column(f"one caller at {LENGTHS[-1]:,} messages, x raw", f"append_{LENGTHS[-1]}"),
    Column(f"read {LENGTHS[-1]:,} messages, ms", "read_ms"),
    Column(f"{PROCESSES} processes: turns refused", "storm_refused"),
    Column("messages lost", "storm_lost"),
    Column("reads that saw nothing during a rewrite", "reads_empty", " %", call=REPLACE),
)
ON_A_SERVER = (
    Column("one caller, x raw", "one"),
    *(
        Column(f"{callers} {kind}, x raw", f"{kind}_{callers}", call=kind)
        for callers in (8, 64)
        for kind in (THREADS, TASKS)
    ),
    Column("read 10,000, ms", "read_ms"),
)
SERVER_TITLE = "On PostgreSQL"
SERVER_EXPLAINED = (
    "{server}, a database for each store, a session for each caller; medians of {rounds} rounds. "
    "Raw: rows of the same bytes, inserted and committed one by one on one connection of the same "
    "server, measured before and after each store."
)
EXPLAINED = (
    "A turn is two messages of about 400 bytes. Medians of {rounds} rounds, with the lowest and "
    "the highest; in each round every store was measured beside the disk's own rate (raw: the same "
    "bytes appended to a file, fdatasync after each turn), Holdfast through the same worker as the "
    f"others. Bytes on disk are those of all files after {DISK_TURNS} turns."
)
PICTURE = (
    "Bar charts of Holdfast and other stores: turns a second of one caller at 10,000 "
    "messages, the time to read them, and what four processes on one session lost."
)


def terminal_tables(contenders: Sequence[Contender]) -> list[Table]:
    """Return the tables for people at a terminal."""
    return [_terminal_table(title, columns, contenders) for title, columns in TABLES.items()]


def _terminal_table(
    title: str, columns: Sequence[Column], contenders: Sequence[Contender]
) -> Table:
    table = Table(title=title)
    table.add_column("store", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right")
    for each in contenders:
        table.add_row(each.title, *(column.cell(each) for column in columns))
    return table


def terminal_server_table(contenders: Sequence[Contender]) -> Table:
    """Return the table of stores on one PostgreSQL server for people at a terminal."""
    return _terminal_table(SERVER_TITLE, ON_A_SERVER, contenders)


def server_markdown(contenders: Sequence[Contender], server: str) -> str:
    """Return the tables of stores on one PostgreSQL server."""
    rounds = max(len(each.rounds) for each in contenders)
    rows = [(each.title, *(column.cell(each) for column in ON_A_SERVER)) for each in contenders]
    lines = [f"**{SERVER_TITLE}**", "", *_who(contenders), ""]
    lines += _table(("store", *(column.heading for column in ON_A_SERVER)), rows, "---:")
    lines += ["", SERVER_EXPLAINED.format(server=server, rounds=rounds), *_failed(contenders)]
    return "\n".join(lines) + "\n"


def summary_markdown(contenders: Sequence[Contender], picture: str) -> str:
    """Return one table of what matters most, and the picture, for a page that finds it there."""
    rows = [
        (
            each.title,
            str(each.facts.get("durability", FAILED)),
            *(column.middle(each) for column in SUMMARY),
        )
        for each in contenders
    ]
    lines = _table(("store", "durability", *(column.heading for column in SUMMARY)), rows, "---:")
    lines += ["", f"![{PICTURE}]({picture})", *_failed(contenders)]
    return "\n".join(lines) + "\n"


def server_summary_markdown(contenders: Sequence[Contender]) -> str:
    """Return the same of stores on one PostgreSQL server."""
    rows = [(each.title, *(column.middle(each) for column in ON_A_SERVER)) for each in contenders]
    headings = (SERVER_TITLE.lower(), *(column.heading for column in ON_A_SERVER))
    return "\n".join([*_table(headings, rows, "---:"), *_failed(contenders)]) + "\n"


def standings_markdown(contenders: Sequence[Contender]) -> str:
    """Return the tables."""
    lines = _who(contenders)
    for title, columns in TABLES.items():
        rows = [(each.title, *(column.cell(each) for column in columns)) for each in contenders]
        lines += ["", f"**{title}**", ""]
        lines += _table(("store", *(column.heading for column in columns)), rows, "---:")
    rounds = max(len(each.rounds) for each in contenders)
    lines += ["", EXPLAINED.format(rounds=rounds), *_failed(contenders)]
    return "\n".join(lines) + "\n"


def _who(contenders: Sequence[Contender]) -> list[str]:
    rows = [
        (each.title, str(each.facts.get("version", "")), str(each.facts.get("durability", FAILED)))
        for each in contenders
    ]
    return _table(("store", "version", "durability, as read back or seen"), rows, "---")


def _failed(contenders: Sequence[Contender]) -> list[str]:
    lines: list[str] = []
    for each in contenders:
        if each.failure is not None:
            lines += ["", f"**{each.title} failed:** {_in_line(each.failure)}"]
    return lines


def uses_markdown(contenders: Sequence[Contender]) -> str:
    """Return how each store was used, and what is to be said about its figures."""
    lines = ["**How each store was used**", ""]
    for each in contenders:
        said = [str(each.facts.get("how", FAILED)), *each.remarks]
        lines.append(f"- {each.title}: {_in_line('; '.join(said))}")
    return "\n".join(lines) + "\n"


def standings_json(contenders: Sequence[Contender]) -> list[dict[str, object]]:
    """Return everything that is known about everybody, round by round."""
    return [
        {
            "name": each.entry.name,
            "facts": each.facts,
            "remarks": each.remarks,
            "failure": each.failure,
            "figures": {
                key: {"median": median(values), "min": min(values), "max": max(values)}
                for key in dict.fromkeys(key for found in each.rounds for key in found)
                if (values := each.values(key))
            },
            "rounds": each.rounds,
        }
        for each in contenders
    ]


def write_picture(contenders: Sequence[Contender], path: Path) -> None:
    """Write the plot."""
    length = LENGTHS[-1]
    panels = [
        Panel(
            f"One caller adds turns to a session of {length:,} messages",
            "x the disk's own rate, longer is better",
            _bars(contenders, f"append_{length}"),
            logarithmic=True,
        ),
        Panel(
            f"Reading {length:,} messages",
            "ms, shorter is better",
            _bars(contenders, "read_ms"),
            logarithmic=True,
        ),
        Panel(
            f"{PROCESSES} processes add to one session",
            "turns refused, torn apart or half there, messages lost or doubled: none is right",
            _bars(contenders, "storm_faults"),
        ),
    ]
    rounds = max(len(each.rounds) for each in contenders)
    caption = [
        f"Medians of {rounds} rounds; whiskers reach from the lowest round to the highest.",
        "All stores were measured by turns in the same rounds, each used as it documents.",
        "A turn is two messages of about 400 bytes.",
        "Stores marked * do not wait for the disk: what they acknowledged can be lost.",
    ]
    path.write_text(
        svg("Holdfast and other stores of conversations", PICTURE, panels, caption), "utf-8"
    )


def _bars(contenders: Sequence[Contender], key: str) -> list[Bar]:
    return [
        Bar(
            each.title + ("" if "synchronous FULL" in each.facts.get("durability", "") else " *"),
            tuple(each.values(key)),
            is_ours=place == 0,
        )
        for place, each in enumerate(contenders)
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], rule: str) -> list[str]:
    return [
        "| " + " | ".join(headings) + " |",
        "| --- |" + f" {rule} |" * (len(headings) - 1),
        *("| " + " | ".join(map(_in_line, row)) + " |" for row in rows),
    ]


def _in_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
