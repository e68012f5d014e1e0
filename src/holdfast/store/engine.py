"""Batches: callers that write at the same time share one durable commit.

The right to commit is one token. A caller that finds it free commits at once, on its own thread.
Callers that find it taken queue; whoever gives the token back while others wait hands it to the
committer thread, which commits the queue batch by batch until it is empty. So one caller pays no
hand-over, and a thousand share one fsync. This is the only place that knows threads.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from holdfast.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.model.commit import Commit, Deletion
from holdfast.model.write import Write
from holdfast.store.backend import Backend, Outcome
from holdfast.store.deadlines import Deadlines
from holdfast.store.pending import AsyncPending, Pending, State
from holdfast.store.sources import Sources

if TYPE_CHECKING:  # asyncio is slow to import, and those who use it have it already
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

MAX_BATCH = 128
IDLE_S = 1.0
READERS = 4


_LoopDeadlines: TypeAlias = (
    "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines[AsyncPending]]"
)


class Engine:
    """Runs the commits and the reader threads of one store."""

    def __init__(self, backend: Backend, sources: Sources) -> None:
        self.backend = backend
        self._sources = sources
        self._start_fresh()
        _engines.add(self)

    def _start_fresh(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)
        self._queue: deque[Pending | AsyncPending] = deque()
        self._token_taken = False
        self._token_is_committers = False
        self._committer: threading.Thread | None = None
        self._in_flight = False
        self._readers: ThreadPoolExecutor | None = None
        self._closed = False
        self._left_to_committer = False
        self._deadlines: _LoopDeadlines = weakref.WeakKeyDictionary()

    # Callers

    def commit(self, write: Write, timeout_s: float) -> Commit | Deletion:
        """Commit `write` from a thread; durable when this returns."""
        deadline = self._sources.monotonic_s() + timeout_s
        if not _in_event_loop() and self._take_token():
            outcome = self._commit_alone(write)
            if outcome is not None:
                return _result(outcome)
        pending = Pending(write, deadline)
        self._enqueue(pending)
        return _result(self._await_outcome(pending))

    async def commit_async(self, write: Write, timeout_s: float) -> Commit | Deletion:
        """Commit `write` from a task; durable when this returns.

        A task that is cancelled while its write is queued has not written. Once the write is in
        flight, cancellation waits for its outcome, and the `CancelledError` says what it was.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        pending = AsyncPending(write, self._sources.monotonic_s() + timeout_s, loop)
        self._enqueue(pending)
        deadlines = self._deadlines_of(loop)
        deadlines.watch(pending)
        try:
            return _result(await pending.future)
        except asyncio.CancelledError:
            if self._withdraw(pending):
                raise
            if pending.future.cancelled():
                pending.future = loop.create_future()
                _deliver([pending])
            try:
                outcome = await pending.future
            except OutcomeUnknown as error:
                outcome = error
            raise asyncio.CancelledError(_last_word(outcome)) from None
        finally:
            deadlines.forget(pending)

    @property
    def readers(self) -> ThreadPoolExecutor:
        """The threads on which tasks read."""
        with self._lock:
            self._require_open()
            if self._readers is None:
                from concurrent.futures import ThreadPoolExecutor

                self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="holdfast-reader")
            return self._readers

    def close(self) -> None:
        """Commit what is queued, then let go. Later calls raise `Unavailable`."""
        with self._lock:
            self._closed = True
            self._settled.wait_for(self._is_settled)
            # With the token still out, the committer stands in line behind another process, for
            # callers that have given up: it lets go of the backend when it gets through.
            self._left_to_committer = self._token_taken
            readers, self._readers = self._readers, None
        if readers is not None:
            readers.shutdown()
        if not self._left_to_committer:
            self.backend.close()

    def require_open(self) -> None:
        """Raise `Unavailable` if the store was closed."""
        with self._lock:
            self._require_open()

    def after_fork(self) -> None:
        """Start anew in a forked child: the parent's threads and callers are not here."""
        closed = self._closed
        self._start_fresh()
        self._closed = closed
        self.backend.after_fork()

    def _is_settled(self) -> bool:
        """Whether nobody waits for a commit any more."""
        if not self._token_is_committers:
            return not self._token_taken
        queued = any(pending.state is State.QUEUED for pending in self._queue)
        return not queued and not self._in_flight

    # The token

    def _take_token(self) -> bool:
        with self._lock:
            self._require_open()
            if self._token_taken:
                return False
            self._token_taken = True
            return True

    def _enqueue(self, pending: Pending | AsyncPending) -> None:
        with self._lock:
            self._require_open()
            self._queue.append(pending)
            if not self._token_taken:
                self._token_taken = True
                self._wake_committer()

    def _give_token_back(self) -> None:
        with self._lock:
            if self._queue:
                self._wake_committer()
            else:
                self._token_taken = False
                self._settled.notify_all()

    def _wake_committer(self) -> None:
        self._token_is_committers = True
        if self._committer is None:
            self._committer = threading.Thread(
                target=self._run_committer, name="holdfast-committer", daemon=True
            )
            self._committer.start()
        else:
            self._news.notify()

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(
                "the store is closed", retryable=False, code="closed", hint="connect again"
            )

    # Committing

    def _commit_alone(self, write: Write) -> Outcome | None:
        """Commit on the caller's thread; `None` if another process is writing just now."""
        try:
            if not self.backend.admit(wait=False):
                return None
            try:
                return self.backend.commit([write])[0]
            finally:
                self.backend.leave()
        finally:
            self._give_token_back()

    def _run_committer(self) -> None:
        while True:
            with self._lock:
                if not self._news.wait_for(lambda: self._token_is_committers, IDLE_S):
                    self._committer = None
                    return
            self._drain()
            if self._left_to_committer:
                self.backend.close()
                return

    def _drain(self) -> None:
        while True:
            with self._lock:
                while self._queue and self._queue[0].state is State.WITHDRAWN:
                    self._queue.popleft()
                if not self._queue:
                    self._token_taken = self._token_is_committers = False
                    self._settled.notify_all()
                    return
            batch: list[Pending | AsyncPending] = []
            outcomes: Sequence[Outcome]
            try:
                if not self.backend.admit(wait=True):
                    continue
                try:
                    batch = self._take_batch()
                    outcomes = self.backend.commit([p.write for p in batch]) if batch else []
                finally:
                    self.backend.leave()
            except HoldfastError as error:
                batch = batch or self._take_batch()
                outcomes = [error.twin() for _ in batch]
            except Exception as error:  # noqa: BLE001 - a worker's loop: whoever waits must learn
                batch = batch or self._take_batch()
                outcomes = [_unexpected(error) for _ in batch]
            self._publish(batch, outcomes)
            with self._lock:
                self._in_flight = False
                self._settled.notify_all()

    def _take_batch(self) -> list[Pending | AsyncPending]:
        batch: list[Pending | AsyncPending] = []
        with self._lock:
            while self._queue and len(batch) < MAX_BATCH:
                pending = self._queue.popleft()
                if pending.state is State.QUEUED:
                    pending.state = State.IN_FLIGHT
                    batch.append(pending)
            self._in_flight = bool(batch)
        return batch

    def _publish(
        self, batch: Sequence[Pending | AsyncPending], outcomes: Sequence[Outcome]
    ) -> None:
        by_loop: defaultdict[asyncio.AbstractEventLoop, list[AsyncPending]] = defaultdict(list)
        for pending, outcome in zip(batch, outcomes, strict=True):
            pending.outcome = outcome
            pending.state = State.DONE
            if isinstance(pending, Pending):
                pending.signal.release()
            else:
                by_loop[pending.loop].append(pending)
        for loop, done in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver, done)
            except RuntimeError:  # the loop is closed: nobody waits there any more
                continue

    # Deadlines

    def _await_outcome(self, pending: Pending) -> Outcome:
        try:
            remaining_s = max(0.0, pending.deadline - self._sources.monotonic_s())
            in_time = pending.signal.acquire(timeout=remaining_s)
        except BaseException:  # Ctrl-C: what is still queued is not to be written behind our back
            self._withdraw(pending)
            raise
        if in_time or pending.outcome is not None:
            assert pending.outcome is not None
            return pending.outcome
        return _not_sent() if self._withdraw(pending) else _not_answered()

    def _withdraw(self, pending: Pending | AsyncPending) -> bool:
        """Take a write out of the queue; false if its batch has started."""
        with self._lock:
            if pending.state is not State.QUEUED:
                return False
            pending.state = State.WITHDRAWN
            self._settled.notify_all()
            return True

    def _deadlines_of(self, loop: asyncio.AbstractEventLoop) -> Deadlines[AsyncPending]:
        found = self._deadlines.get(loop)
        if found is None:
            found = Deadlines(loop, self._sources.monotonic_s, self._expire_async)
            self._deadlines[loop] = found
        return found

    def _expire_async(self, pending: AsyncPending) -> None:
        if pending.future.done():
            return
        if self._withdraw(pending):
            pending.future.set_exception(_not_sent())
        else:
            pending.future.set_exception(_not_answered())


def _deliver(batch: Sequence[AsyncPending]) -> None:
    """Set the futures of one loop's share of a batch, in that loop."""
    for pending in batch:
        if pending.outcome is not None and not pending.future.done():
            pending.future.set_result(pending.outcome)


def _result(outcome: Outcome) -> Commit | Deletion:
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


def _not_sent() -> Unavailable:
    return Unavailable(
        "the deadline passed before the write's turn came; it was not written",
        code="deadline",
        hint="another process may hold the store: holdfast doctor shows which",
    )


def _not_answered() -> OutcomeUnknown:
    return OutcomeUnknown("the deadline passed while the write was being committed")


def _unexpected(error: Exception) -> OutcomeUnknown:
    failure = OutcomeUnknown(f"the commit failed in a way that nobody foresaw: {error!r}")
    failure.__cause__ = error
    return failure


def _last_word(outcome: Outcome) -> str:
    if isinstance(outcome, OutcomeUnknown):
        return "cancelled while committing; whether it was written is unknown"
    if isinstance(outcome, HoldfastError):
        return f"cancelled; nothing was written: {outcome.message}"
    return "cancelled, but the write is committed"


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for engine in _engines:
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
