"""The stores of one process: both faces of one engine, for every tenant and for every patience."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.backend import Backend
from holdfast.store.engine import Engine
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.store.urls import backend_for
from holdfast.testing.checking.plan import PATIENCE_S, Plan

Wrap: TypeAlias = Callable[[Backend], Backend]


class Faces:
    """One engine on the plan's store. Threads and tasks that share it meet in its queue."""

    def __init__(self, plan: Plan, wrap: Wrap | None = None) -> None:
        self.sources = Sources(now_ms=_SlowClock(plan))
        backend = backend_for(
            plan.url, durability=plan.durability, timeout_s=PATIENCE_S, sources=self.sources
        )
        self._engine = Engine(wrap(backend) if wrap else backend, self.sources)
        self._engine.backend.open()

    def for_threads(self, tenant: str, timeout_s: float = PATIENCE_S) -> SessionStore:
        """Return the store that blocks."""
        return SessionStore(self._engine, tenant, self.sources, timeout_s)

    def for_tasks(self, tenant: str, timeout_s: float = PATIENCE_S) -> AsyncSessionStore:
        """Return the store that is awaited."""
        return AsyncSessionStore(self._engine, tenant, self.sources, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._engine.close()


class _SlowClock:
    """Tells the time, now and then late: commits ask for it, and are longer in flight by that."""

    def __init__(self, plan: Plan) -> None:
        self._random = random.Random(plan.seed)
        self._slow = plan.slow
        self._delay_s = plan.delay_s

    def __call__(self) -> int:
        if self._slow and self._random.randrange(self._slow) == 0:
            time.sleep(self._delay_s)
        return time.time_ns() // 1_000_000
