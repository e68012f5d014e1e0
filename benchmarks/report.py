"""Rounds in; a table for the terminal, Markdown and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
from benchmarks.figures import Figure, Measurement, Round
from benchmarks.machine import Machine
from rich.table import Table

OPENS = "<!-- bench -->"
CLOSES = "<!-- /bench -->"
HEADINGS = ("figure", "measured", "min-max", "target", "")


@dataclass(frozen=True, slots=True)
class Result:
    """The rounds of one measurement."""

    measurement: Measurement
    rounds: Sequence[Round]

    def values(self, figure: Figure) -> list[float]:
        """Return what each round gave for a figure."""
        return [found.values[figure.name] for found in self.rounds]


def terminal_table(results: Sequence[Result]) -> Table:
    """Return the results for people at a terminal."""
    table = Table(title="Holdfast against this machine's own limit")
    for heading in HEADINGS:
        left = heading in ("figure", "")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for row, met in _rows(results):
        colour = {True: "green", False: "red", None: ""}[met]
        table.add_row(*row[:4], f"[{colour}]{row[4]}[/]" if colour else row[4])
    return table


def markdown(results: Sequence[Result], machine: Machine) -> str:
    """Return the results as a Markdown table, with the machine they stand for."""
    rounds = sorted({len(result.rounds) for result in results})
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "| --- | ---: | ---: | ---: | --- |",
        *("| " + " | ".join(row) + " |" for row, _ in _rows(results)),
        "",
        f"Medians of {' or '.join(map(str, rounds))} rounds. "
        + "; ".join(f"{name} {value}" for name, value in machine.items())
        + ". Raw: append the same bytes to a file and fdatasync, one caller, in the same round; "
        f"it varied {disk_spread(results):.1f}-fold over the run.",
    ]
    return "\n".join(lines) + "\n"


def json_text(results: Sequence[Result], machine: Machine, peers: object = ()) -> bytes:
    """Return every round of every measurement, and what is known about the peers."""
    found = {
        "machine": machine,
        "figures": [
            {
                "name": figure.name,
                "unit": figure.unit,
                "median": median(result.values(figure)),
                "min": min(result.values(figure)),
                "max": max(result.values(figure)),
                "target": figure.target,
                "met": figure.is_met(result.values(figure)),
            }
            for result in results
            for figure in result.measurement.figures
        ],
        "rounds": {
            result.measurement.name: [
                {"values": found.values, "details": found.details} for found in result.rounds
            ]
            for result in results
        },
        "peers": peers,
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def disk_spread(results: Sequence[Result]) -> float:
    """Return the disk's own highest rate over its lowest: near 1 if it was left alone."""
    rates = [
        rate
        for result in results
        for found in result.rounds
        for what, rate in found.details.items()
        if what.endswith("raw_turns_a_second")
    ]
    return max(rates) / min(rates) if rates else 1.0


def write_into(page: Path, text: str) -> None:
    """Put `text` between the page's two marks."""
    before, opens, rest = page.read_text("utf-8").partition(OPENS)
    _, closes, after = rest.partition(CLOSES)
    if not (opens and closes):
        raise ValueError(f"{page.name} has no place for figures: {OPENS} and {CLOSES}")
    page.write_text(f"{before}{OPENS}\n{text}{CLOSES}{after}", "utf-8")


def number(value: float) -> str:
    """Return a value with about three digits that mean something."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    if value >= 0.1:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"


def _rows(results: Sequence[Result]) -> list[tuple[tuple[str, ...], bool | None]]:
    rows: list[tuple[tuple[str, ...], bool | None]] = []
    for result in results:
        for figure in result.measurement.figures:
            values = result.values(figure)
            met = figure.is_met(values)
            row = (
                figure.name,
                f"{number(median(values))} {figure.unit}".rstrip(),
                f"{number(min(values))}-{number(max(values))}",
                _goal(figure, figure.target),
                {True: "met", False: "not met", None: ""}[met],
            )
            rows.append((row, met))
    return rows


def _goal(figure: Figure, goal: float | None) -> str:
    if goal is None:
        return ""
    every = ", every round" if figure.strict else ""
    return f"{figure.wanted.value} {goal:g}{every}"
