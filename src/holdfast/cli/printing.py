"""What commands print: tables, facts and JSON on stdout, messages on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.escaping import json_text, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from holdfast.model.session import SessionInfo

_UNFOLDED = 100_000
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_WEEKS_FROM = 14 * _DAY


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. On a narrow terminal one to be `cut` gives way, a `whole` one never."""

    name: str
    right: bool = False
    cut: bool = False
    whole: bool = False
    style: str = ""


def console() -> Console:
    """Return rich's console for stdout; into a pipe or a file, lines are as long as they are."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNFOLDED
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_rich(*things: RenderableType) -> None:
    """Print renderables in one piece, without the blanks that rich fills lines up with."""
    screen = console()
    with screen.capture() as captured:
        for thing in things:
            screen.print(thing)
    text = "".join(line.rstrip(" ") + "\n" for line in captured.get().split("\n")[:-1])
    sys.stdout.write(text)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json_text(value))


def print_line(text: str) -> None:
    """Print a result that is a sentence."""
    click.echo(text)


def say(text: str) -> None:
    """Print a message for people; it stays out of the data."""
    click.echo(text, err=True)


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> RenderableType:
    """Return a table of stored values, which are shown literally; empty columns are left out."""
    from rich.table import Table
    from rich.text import Text

    cells = [[visible("" if value is None else value) for value in row] for row in rows]
    shown = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for n in shown:
        column = columns[n]
        drawn.add_column(
            column.name.upper(),
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=column.cut or column.right,
            overflow="ellipsis" if column.cut else "fold",
            min_width=max(len(row[n]) for row in cells) if column.whole else None,
        )
    for row in cells:
        drawn.add_row(*(Text(row[n]) for n in shown))
    return drawn


def facts(rows: Iterable[tuple[str, object]]) -> RenderableType:
    """Return named values, one a line."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in rows:
        drawn.add_row(Text(visible(name)), Text(visible(value)))
    return drawn


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago a moment was, as people say it."""
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    if seconds < -_MINUTE:
        return f"{moment:%Y-%m-%d %H:%M} UTC"  # the clocks of two machines differ
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h ago"
    if seconds < _WEEKS_FROM:
        days = seconds // _DAY
        return "yesterday" if days == 1 else f"{days} days ago"
    return f"{moment:%Y-%m-%d}"


def iso(moment: datetime) -> str:
    """Return a moment for programs: ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def described(info: SessionInfo) -> dict[str, Any]:
    """Return a session for programs."""
    return {
        "id": info.id,
        "title": info.title,
        "user_id": info.user_id,
        "agent_name": info.agent_name,
        "created_at": iso(info.created_at),
        "updated_at": iso(info.updated_at),
        "message_count": info.message_count,
        "revision": info.revision,
        "status": info.status,
        "metadata": info.metadata,
        "labels": info.labels,
    }


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    if count == 1:
        return f"{count:,} {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"


def size(count: int) -> str:
    """Return bytes in the unit that fits."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= one:
            return f"{count / one:,.1f} {unit}"
    return plural(count, "byte")
