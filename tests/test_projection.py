"""Of any log that can come about, providers take what is read of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.store.backend import Backend
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.testing.providers import Refused
from tests.model.conversing import Conversing


class InMemory(Conversing):
    """Conversations in memory: a limit, or a point, is told apart by the rules, not the backend."""

    def backend(self, sources: Sources) -> Backend:
        """A log in memory."""
        return MemoryBackend(sources)


BOUNDS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestInMemory = InMemory.TestCase
TestInMemory.settings = BOUNDS


@pytest.mark.parametrize(
    "place",
    [
        "holdfast.store.reading.repair",
        "holdfast.store.sync_turn.repair",
        "holdfast.rules.providers._trim_end",
    ],
)
def test_planted_faults(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above finds what a history lacks that is not made acceptable."""
    monkeypatch.setattr(place, lambda messages: messages)
    once = settings(BOUNDS, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(Refused):
        run_state_machine_as_test(InMemory, settings=once)
