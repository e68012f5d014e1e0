"""Planting: each fault goes into a session of the run that has room for it, and must be caught."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.testing.checking.case import Births, births_in
from holdfast.testing.checking.faults import in_reads, in_writes
from holdfast.testing.checking.faults.plot import Fault, Plot
from holdfast.testing.checking.judging import judge_session
from holdfast.testing.checking.recording import Recording

FAULTS = (*in_writes.FAULTS, *in_reads.FAULTS)
LEAST = 10
_TRIES = 400


@dataclass(slots=True)
class Planted:
    """What became of the faults: caught, missed, or never planted since no session had room."""

    caught: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    no_room: list[str] = field(default_factory=list)

    @property
    def sufficient(self) -> bool:
        """Whether a judge that did so may judge the run."""
        return not self.missed and len(self.caught) >= LEAST


def plant(recording: Recording, seed: int) -> Planted:
    """Plant every fault in a copy of the recording, and see whether the judge names its rule."""
    nursery = _Nursery(recording, seed)
    found = Planted()
    for fault in FAULTS:
        outcome = nursery.plant(fault)
        if outcome is None:
            found.no_room.append(fault.name)
        else:
            (found.caught if outcome else found.missed).append(fault.name)
    return found


class _Nursery:
    """The sessions of a recording, each judged as it is when it is first needed."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self._recording = recording
        self._births: Births = births_in(recording)
        self._seed = seed
        self._random = random.Random(seed)
        self._places = list(recording)

    def plant(self, fault: Fault) -> bool | None:
        """Say whether the judge catches it; `None` if there is no room for it."""
        for plot in self._plots():
            if any(violation.rule is fault.rule for violation in plot.case.violations):
                continue  # one more would prove nothing
            falsified = fault.falsify(plot)
            if falsified is not None:
                case = judge_session(plot.case.place, falsified, self._births)
                return any(violation.rule is fault.rule for violation in case.violations)
        return None

    def _plots(self) -> Iterator[Plot]:
        self._random.shuffle(self._places)
        for place in self._places[:_TRIES]:
            case = judge_session(place, self._recording[place], self._births)
            yield Plot(case, self._births, self._seed)
