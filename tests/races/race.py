"""The parent of racing processes, and the count of what they left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import holdfast
from tests.forking import Forked
from tests.races.worker import SESSION, SLOW_S, STOP, main
from tests.stores import is_postgres, slow_down


class Racer(Forked):
    """A worker process, and how many messages it is to leave."""

    def __init__(self, race: Race, role: str, name: str, count: int) -> None:
        super().__init__(main, name, [role, race.url, str(race.folder), name, str(count)])
        self.count = count

    def finish(self) -> list[str]:
        """Wait for the end; return what was said on the way."""
        said = super().finish()
        assert said[-1] == "done", said
        return said[:-1]


class Race:
    """Processes on one store, which start together once all of them are connected."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.store = holdfast.connect(url)
        self.racers: list[Racer] = []
        if is_postgres(url):
            slow_down(url, SLOW_S)

    def enter(self, role: str, *, processes: int = 1, count: int = 0) -> list[Racer]:
        """Start processes with a role; they wait for `go`."""
        first = len(self.racers)
        entered = [
            Racer(self, role, f"{role}{first + number}", count) for number in range(processes)
        ]
        self.racers += entered
        return entered

    def go(self) -> None:
        """Let everybody run once everybody is ready."""
        for racer in self.racers:
            assert racer.hear() == "ready"
        for racer in self.racers:
            racer.tell("go")

    def stop(self) -> None:
        """Ask those that loop to end."""
        (self.folder / STOP).touch()

    def tally(self, racers: Sequence[Racer]) -> Tally:
        """Count what the racers' numbered messages have become."""
        stored = [message["content"] for message in self.store.get_messages(SESSION)]
        return tally(stored, {racer.name: racer.count for racer in racers})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for racer in self.racers:
            racer.close()
        self.store.close()


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of numbered messages `name:0`, `name:1` and so on."""

    found: int
    lost: list[str]
    doubled: list[str]
    disordered: list[str]
    split: list[str]

    @property
    def harmed(self) -> bool:
        """Whether any promise about single messages was broken."""
        return bool(self.lost or self.doubled or self.disordered)


def tally(stored: Sequence[Any], counts: dict[str, int]) -> Tally:
    """Compare stored contents with the messages that each name acknowledged.

    `split` names the even messages that are not directly followed by their odd one.
    """
    expected = [f"{name}:{number}" for name, count in counts.items() for number in range(count)]
    times = Counter(stored)
    own: dict[str, list[int]] = {name: [] for name in counts}
    for text in stored:
        name, _, number = str(text).rpartition(":")
        if name in own:
            own[name].append(int(number))
    follows = dict(pairwise(stored))
    return Tally(
        found=sum(text in times for text in expected),
        lost=[text for text in expected if text not in times],
        doubled=[text for text in expected if times[text] > 1],
        disordered=[name for name, numbers in own.items() if numbers != sorted(numbers)],
        split=[
            f"{name}:{even}"
            for name, count in counts.items()
            for even in range(0, count, 2)
            if follows.get(f"{name}:{even}") != f"{name}:{even + 1}"
        ],
    )
