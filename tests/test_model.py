"""The public API against a plain model of it, written from the small print and nothing else.

Two tenants use the same session ids; the SQLite store is driven through two engines by turns.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.store.backend import Backend
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from holdfast.testing.postgres import Server
from tests.model.past import Past
from tests.model.saving import Saving


class Model(Saving, Past):
    """All rules, in any order."""


class MemoryModel(Model):
    """The model against the memory backend."""

    engine_count = 1

    def backend(self, folder: Path, sources: Sources) -> Backend:  # noqa: ARG002 - no files
        """A log in memory."""
        return MemoryBackend(sources)


class SqliteModel(Model):
    """The model against one SQLite file and two engines."""

    engine_count = 2

    def backend(self, folder: Path, sources: Sources) -> Backend:
        """The example's file."""
        path = str(folder / "model.db")
        return backend_for(path, durability="relaxed", timeout_s=30, sources=sources)


BOUNDS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMemory = MemoryModel.TestCase
TestMemory.settings = settings(BOUNDS, max_examples=150, stateful_step_count=40)
TestSqlite = SqliteModel.TestCase
TestSqlite.settings = settings(BOUNDS, max_examples=40, stateful_step_count=30)


def test_postgres(server: Server) -> None:
    """The model holds of one schema on a server and two engines; 5 examples, as each takes long."""

    class PostgresModel(Model):
        engine_count = 2

        def backend(self, folder: Path, sources: Sources) -> Backend:
            url = f"{server.url}?schema={folder.name}"
            return backend_for(url, durability="relaxed", timeout_s=30, sources=sources)

    bounds = settings(BOUNDS, max_examples=5, stateful_step_count=30)
    run_state_machine_as_test(PostgresModel, settings=bounds)
