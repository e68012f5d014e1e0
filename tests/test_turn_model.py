"""Turns against a plain model of them, written from the small print and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.store.backend import Backend
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from holdfast.testing.postgres import Server
from tests.model.turning import Turning


class MemoryTurns(Turning):
    """The model against the memory backend."""

    def backend(self, folder: Path, sources: Sources) -> Backend:  # noqa: ARG002 - no files
        """A log in memory."""
        return MemoryBackend(sources)


class SqliteTurns(Turning):
    """The model against one SQLite file and two engines."""

    engine_count = 2

    def backend(self, folder: Path, sources: Sources) -> Backend:
        """The example's file."""
        path = str(folder / "turns.db")
        return backend_for(path, durability="relaxed", timeout_s=30, sources=sources)


BOUNDS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMemory = MemoryTurns.TestCase
TestMemory.settings = settings(BOUNDS, max_examples=200, stateful_step_count=40)
TestSqlite = SqliteTurns.TestCase
TestSqlite.settings = settings(BOUNDS, max_examples=40, stateful_step_count=30)


def test_postgres(server: Server) -> None:
    """The model holds of one schema on a server and two engines; 15 examples."""

    class PostgresTurns(Turning):
        engine_count = 2

        def backend(self, folder: Path, sources: Sources) -> Backend:
            url = f"{server.url}?schema={folder.name}"
            return backend_for(url, durability="relaxed", timeout_s=30, sources=sources)

    bounds = settings(BOUNDS, max_examples=15, stateful_step_count=30)
    run_state_machine_as_test(PostgresTurns, settings=bounds)


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("holdfast.rules.turns.is_alive", lambda *_: False),
        ("holdfast.rules.turns.is_alive", lambda session, now: now < session.lease_until),
        ("holdfast.rules.turns._is_to_be_repeated", lambda *_: False),
        ("holdfast.rules.turns._Opening._has_prompt", lambda *_: False),
        ("holdfast.rules.turns.said_since", lambda *_: []),
        ("holdfast.rules.committing.carried", lambda *_: ()),
    ],
)
def test_planted_faults(place: str, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model sees what turns must not do."""
    monkeypatch.setattr(place, fault)
    once = settings(
        BOUNDS,
        max_examples=200,
        stateful_step_count=40,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(MemoryTurns, settings=once)
