"""What is measured and what it is held to: figures, rounds, and the ground they run on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeAlias


class Wanted(Enum):
    """On which side of its target a figure should be."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the report.

    `target` is what it should reach: a `strict` figure in every round, any other in the median of
    the rounds.
    """

    name: str
    unit: str
    wanted: Wanted = Wanted.AT_LEAST
    target: float | None = None
    strict: bool = False

    def is_met(self, values: Sequence[float]) -> bool | None:
        """Say whether the rounds' values meet the target; `None` if there is none."""
        if self.target is None:
            return None
        if self.wanted is Wanted.AT_LEAST:
            return (min(values) if self.strict else median(values)) >= self.target
        return (max(values) if self.strict else median(values)) <= self.target


@dataclass(frozen=True, slots=True)
class Round:
    """One round: a value for each figure of its measurement, and what they were computed from."""

    values: Mapping[str, float]
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a run puts its files, and how much it does in a round."""

    root: Path
    share: float

    def count(self, full: int) -> int:
        """Return how many of `full` repetitions this run does."""
        return max(1, round(full * self.share))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Lend an empty folder on the disk that is measured."""
        with TemporaryDirectory(dir=self.root) as name:
            yield Path(name)


Rounds: TypeAlias = Callable[[Ground], Generator[Round, None, None]]
"""Prepares, then yields round after round for as long as somebody asks for another."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures that come out of the same rounds."""

    name: str
    figures: tuple[Figure, ...]
    rounds: Rounds
