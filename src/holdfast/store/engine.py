"""Batches: callers that write at the same time share one durable commit.

The right to commit is one token. A caller that finds it free commits at once, on its own thread.
Callers that find it taken queue; whoever gives the token back while others wait hands it to the
committer thread, which commits the queue batch by batch until it is empty. So one caller pays no
hand-over, and a thousand share one fsync. This is the only place that knows threads.

Before the process forks, the token is taken and every file is closed: a connection that parent and
child both know would let the one delete what the other writes.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.write import Write
from holdfast.store import refusals
from holdfast.store.backend import Backend, Outcome, Result, is_contended
from holdfast.store.deadlines import Deadlines
from holdfast.store.forking import tell_of_forks
from holdfast.store.guests import Beating, UnderWay
from holdfast.store.news import News
from holdfast.store.pending import (
    AnyPending,
    AsyncPending,
    Pending,
    PostedPending,
    State,
    Untold,
    leave,
    outcome_despite_cancellation,
    publish,
)
from holdfast.store.sources import Sources

if TYPE_CHECKING:  # asyncio is slow to import, and those who use it have it already
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

MAX_BATCH = 128
LEAST_HALF = 16
IDLE_S = 1.0
READERS = 4
CLOSE_STEP_S = 0.05
FORK_WAIT_S = 5.0
POST_TIMEOUT_S = 30.0
COMMITTER = "the committer"

_LoopDeadlines: TypeAlias = (
    "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines[AsyncPending]]"
)


class Engine:
    """Runs the commits and the reader threads of one store."""

    def __init__(self, backend: Backend, sources: Sources) -> None:
        self.backend = backend
        self._overlaps = backend.capabilities.overlaps
        self.sources = sources
        self._closed = False
        self._start_fresh()
        tell_of_forks(self)

    def _start_fresh(self) -> None:
        # Reentrant: a finalizer may run at any allocation, also while its thread holds the lock.
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)
        self._queue: deque[AnyPending] = deque()
        self._holder: object = None  # of the token: a caller's ticket, the committer, or nobody
        self._holding_thread = 0
        self._committer: threading.Thread | None = None
        self._in_flight = False
        self._untold = Untold(self._lock)
        self._forking: object = None
        self._readers: ThreadPoolExecutor | None = None
        self._left_to_committer = False
        self.news = News(self.backend)
        self._beating: set[Beating] = set()
        self._under_way: set[UnderWay] = set()
        self._next_beat = 0.0
        self._deadlines: _LoopDeadlines = weakref.WeakKeyDictionary()

    # Callers

    def commit(self, write: Write, timeout_s: float) -> Result:
        """Commit `write` from a thread; durable when this returns."""
        deadline = self.sources.monotonic_s() + timeout_s
        if self._holder is None and not _in_event_loop():  # a look, to be taken again with the lock
            outcome = self._commit_alone(write)
            if outcome is not None:
                return _result(outcome)
        return _result(self._outcomes_of([Pending(write, deadline)])[0])

    def commit_together(self, writes: Sequence[Write], timeout_s: float) -> list[Outcome]:
        """Commit writes from a thread, in few batches; each has an outcome of its own."""
        deadline = self.sources.monotonic_s() + timeout_s
        return self._outcomes_of([Pending(write, deadline) for write in writes])

    def _outcomes_of(self, waiting: Sequence[Pending]) -> list[Outcome]:
        try:
            with self._lock:
                for pending in waiting:
                    self._enqueue(pending)
            return [self._await_outcome(pending) for pending in waiting]
        except BaseException:  # Ctrl-C: what is still queued is not to be written behind our back
            for pending in waiting:
                leave(pending, self._lock)
                self.withdraw(pending)
            raise

    async def commit_async(self, write: Write, timeout_s: float) -> Result:
        """Commit `write` from a task; durable when this returns.

        A task that is cancelled while its write is queued has not written. Once the write is in
        flight, cancellation waits for its outcome, and the `CancelledError` says what it was.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        pending = AsyncPending(write, self.sources.monotonic_s() + timeout_s, loop)
        deadlines = self._deadlines_of(loop)
        try:
            self._enqueue(pending)
            deadlines.watch(pending)
            return _result(await pending.future)
        except asyncio.CancelledError:
            expired = pending.future.done() and not pending.future.cancelled()
            if self.withdraw(pending) and not expired:
                raise
            outcome = await outcome_despite_cancellation(pending)
            raise asyncio.CancelledError(refusals.last_word(outcome)) from None
        except BaseException:  # Ctrl-C on the loop's thread, or a loop that nobody runs any more
            self.withdraw(pending)
            raise
        finally:
            deadlines.forget(pending)

    def post(self, write: Write, settled: Callable[[Outcome], None]) -> None:
        """Queue a write and return at once; its outcome goes to `settled`, on the committer.

        What is posted is committed in the order of posting, and before what is committed later.
        """
        posted = PostedPending(write, settled)
        try:
            self.send(posted)
        except BaseException:  # Ctrl-C
            self.withdraw(posted)
            raise

    def send(self, posted: PostedPending) -> None:
        """Do what `post` does; where Ctrl-C ends it, `withdraw` says what became of the write."""
        posted.deadline = self.sources.monotonic_s() + POST_TIMEOUT_S
        self._enqueue(posted)

    def attach(self, beating: Beating) -> None:
        """Call `beating.beat` at every beat, on the committer thread, until it is detached."""
        with self._lock:
            self._require_open()
            self._beating.add(beating)
            self._set_next_beat(self.sources.monotonic_s())
            self._start_committer()
            self._news.notify()

    def detach(self, beating: Beating) -> None:
        """Stop calling `beating`."""
        with self._lock:
            self._beating.discard(beating)

    def begin(self, work: UnderWay) -> None:
        """Let `close` wait for something, until `end` is called of it."""
        with self._lock:
            self._require_open()
            self._under_way.add(work)

    def end(self, work: UnderWay) -> None:
        """Let `close` wait for it no longer."""
        with self._lock:
            self._under_way.discard(work)

    @property
    def readers(self) -> ThreadPoolExecutor:
        """The threads on which tasks read."""
        with self._lock:
            self._require_open()
            if self._readers is None:
                from concurrent.futures import ThreadPoolExecutor

                self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="holdfast-reader")
            return self._readers

    def monotonic_s(self) -> float:
        """Return the store's clock for deadlines, in seconds."""
        return self.sources.monotonic_s()

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._closed

    def close(self) -> None:
        """Wait for what is under way, commit what is queued, then let go.

        Later calls raise `Unavailable`. Ctrl-C interrupts what is under way, and waits for that.
        """
        try:
            self._finish()
        except KeyboardInterrupt:
            for work in list(self._under_way):
                work.interrupt()
            self._finish()
            self._let_go()
            raise
        self._let_go()

    def _finish(self) -> None:
        while self._under_way:  # what is under way may begin more
            for work in list(self._under_way):
                work.finish()
                self.end(work)

    def _let_go(self) -> None:
        for beating in list(self._beating):
            beating.retire()
        with self._lock:
            self._closed = True
            self._beating.clear()
            while not self._is_settled():
                self._settled.wait(CLOSE_STEP_S)
            # With the token still out, the committer stands in line behind another process, for
            # callers that have given up: it lets go of the backend when it gets through.
            self._left_to_committer = self._holder is COMMITTER
            readers, self._readers = self._readers, None
        self.news.close()
        if readers is not None:
            readers.shutdown()
        if not self._left_to_committer:
            self.backend.close()

    def require_open(self) -> None:
        """Raise `Unavailable` if the store was closed."""
        with self._lock:
            self._require_open()

    # Forks

    def before_fork(self) -> None:
        """Let go of every file, so that parent and child have none in common."""
        ticket = object()
        with self._lock:
            self._forking = ticket
            if self._settled.wait_for(lambda: self._holder is None, FORK_WAIT_S):
                self._hold(ticket)
        if self._holder is ticket:
            self.backend.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        self.backend.after_fork_in_parent()
        with self._lock:
            ticket, self._forking = self._forking, None
            if self._holder is ticket:
                self._holder = None
            if self._holder is None and self._queue:
                self._call_committer()
            self._settled.notify_all()

    def after_fork_in_child(self) -> None:
        """Start anew: the parent's threads and callers are not here."""
        for beating in self._beating:
            beating.disown()
        self._start_fresh()
        self.backend.after_fork_in_child()

    # The token

    def _hold(self, holder: object) -> None:
        self._holder = holder
        self._holding_thread = threading.get_ident()

    def _take_token(self, ticket: object) -> bool:
        with self._lock:
            self._require_open()
            if self._holder is not None or self._forking is not None:
                return False
            self._hold(ticket)
            return True

    def _give_token_back(self, ticket: object) -> None:
        with self._lock:
            if self._holder is not ticket:
                return
            if self._queue and self._forking is None:
                self._call_committer()
            if self._holder is ticket:  # not earlier: Ctrl-C would leave the queue to nobody
                self._holder = None
            self._settled.notify_all()

    def _enqueue(self, pending: AnyPending) -> None:
        with self._lock:
            self._require_open()
            if isinstance(pending, Pending) and self._is_in_own_commit():
                raise Unavailable(
                    "a finalizer or a signal handler cannot write while its own thread commits",
                    retryable=False,
                    code="reentrant",
                    hint="write from another thread",
                )
            self._queue.append(pending)
            if self._holder is None and self._forking is None:
                self._call_committer()

    def _is_in_own_commit(self) -> bool:
        held = self._holder is not None and self._holder is not COMMITTER
        return held and self._holding_thread == threading.get_ident()

    def _call_committer(self) -> None:
        """Give the token to the committer thread, and start it before if there is none."""
        try:
            self._start_committer()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            waiting = self._take_batch()
            publish(waiting, [refusals.no_thread(error) for _ in waiting], self._lock)
            self._in_flight = False
        else:
            self._news.notify()
            self._holder = COMMITTER  # not earlier: Ctrl-C would leave it with nobody

    def _start_committer(self) -> None:
        if self._committer is not None:
            return
        thread = threading.Thread(
            target=self._run_committer, name="holdfast-committer", daemon=True
        )
        thread.start()
        self._committer = thread

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(
                "the store is closed", retryable=False, code="closed", hint="connect again"
            )

    def _is_settled(self) -> bool:
        """Whether nobody waits for a commit any more."""
        if self._holder is not COMMITTER:
            return self._holder is None
        now = self.sources.monotonic_s()
        queued = any(p.state is State.QUEUED and p.deadline > now for p in self._queue)
        return not queued and not self._in_flight

    # Committing

    def _commit_alone(self, write: Write) -> Outcome | None:
        """Commit on the caller's thread; `None` if somebody else is in the way just now."""
        ticket = object()
        interrupt: BaseException | None = None
        try:
            if not self._take_token(ticket) or not self.backend.admit(wait=False):
                return None
            outcome = self.backend.commit([write])[0]
            return None if is_contended(outcome) else outcome
        finally:
            # Ctrl-C may come here as well: whatever else happens, nothing stays taken.
            while self._holder is ticket:
                try:
                    self.backend.leave()
                    self._give_token_back(ticket)
                except Exception:
                    self._give_token_back(ticket)
                    raise
                except BaseException as error:  # noqa: BLE001 - raised below
                    interrupt = error
            if interrupt is not None:
                raise interrupt

    def _run_committer(self) -> None:
        with self._lock:  # Ctrl-C may have come while another one was being started
            if self._committer not in (None, threading.current_thread()):
                return
            self._committer = threading.current_thread()
        while True:
            with self._lock:
                woken = self._holder is COMMITTER or self._news.wait(self._rest_s())
                called = self._holder is COMMITTER
                if not (woken or called or self._beating):
                    self._committer = None
                    return
            if called:
                self._drain()
            self._beat()
            if self._left_to_committer:
                self.backend.close()
                return

    def _drain(self) -> None:
        """Commit batch by batch until the queue is empty; then the token is free."""
        while True:
            with self._lock:
                if not self._has_more():
                    self._holder = None
                    self._settled.notify_all()
                    return
            self._commit_batch()
            self._beat()

    def _rest_s(self) -> float:
        """Return how long the committer may rest if nobody calls it."""
        if not self._beating:
            return IDLE_S
        return max(0.0, self._next_beat - self.sources.monotonic_s())

    def _beat(self) -> None:
        """Call whatever beats, if it is time; all beat together, so that they share commits."""
        now = self.sources.monotonic_s()
        with self._lock:
            if not self._beating or now < self._next_beat:
                return
            beating = list(self._beating)
            self._set_next_beat(now)
        for one in beating:
            try:
                one.beat(now)
            except HoldfastError as error:
                one.fail(error)
            except Exception as error:  # noqa: BLE001 - a worker's loop: others' writes go on
                one.fail(refusals.unexpected(error))

    def _set_next_beat(self, now: float) -> None:
        """Beat where the next interval of any begins: equal intervals begin together."""
        lengths = {one.interval_s for one in self._beating}
        self._next_beat = min(((now // s + 1) * s for s in lengths), default=math.inf)

    def _commit_batch(self) -> None:
        """Commit a batch; where commits overlap, go on with the next before it is told of."""
        batch: list[AnyPending] = []
        outcomes: Sequence[Outcome]
        begun = self.sources.monotonic_s()
        try:
            if not self.backend.admit(wait=True):
                return
            try:
                batch = self._take_batch()
                outcomes = self._committed(batch)
                while self._overlaps and self._has_more():
                    self._untold.keep(*self._put_back(batch, outcomes, begun))
                    begun, batch = self.sources.monotonic_s(), self._take_batch()
                    outcomes = self._committed(batch)
            finally:
                self.backend.leave()
        except HoldfastError as error:
            batch = batch or self._take_batch()
            outcomes = [error.twin() for _ in batch]
        except Exception as error:  # noqa: BLE001 - a worker's loop: whoever waits must learn
            batch = batch or self._take_batch()
            outcomes = [refusals.unexpected(error) for _ in batch]
        self._untold.keep(*self._put_back(batch, outcomes, begun))
        self._untold.tell()
        with self._lock:
            self._in_flight = False
            self._settled.notify_all()

    def _committed(self, batch: Sequence[AnyPending]) -> Sequence[Outcome]:
        if not batch:
            return []
        if self._overlaps:
            self.backend.meanwhile(self._in_between)
        return self.backend.commit([pending.write for pending in batch])

    def _in_between(self) -> None:
        """Do what can be done while a batch is under way."""
        self._untold.tell()
        self._beat()

    def _has_more(self) -> bool:
        with self._lock:
            self._drop_abandoned()
            return bool(self._queue) and self._forking is None

    def _drop_abandoned(self) -> None:
        """Drop from the queue's head what nobody waits for any more."""
        now = self.sources.monotonic_s()
        while self._queue:
            first = self._queue[0]
            if first.state is State.QUEUED and not (self._closed and first.deadline < now):
                return
            self._queue.popleft().state = State.WITHDRAWN

    def _take_batch(self) -> list[AnyPending]:
        batch: list[AnyPending] = []
        with self._lock:
            most = MAX_BATCH
            if self._overlaps:
                half = (len(self._untold) + len(self._queue) + 1) // 2
                most = min(most, max(half, LEAST_HALF))
            while self._queue and len(batch) < most:
                pending = self._queue.popleft()
                if pending.state is State.QUEUED:
                    pending.state = State.IN_FLIGHT
                    batch.append(pending)
            self._in_flight = bool(batch) or len(self._untold) > 0
        return batch

    def _put_back(
        self, batch: Sequence[AnyPending], outcomes: Sequence[Outcome], begun: float
    ) -> tuple[Sequence[AnyPending], Sequence[Outcome]]:
        """Queue again what others were in the way of, and return the rest.

        It comes after what is of other sessions, so that those go on, and before what is of its
        own. Not what may be in flight at its deadline: now it is certain that it was not written.
        """
        if not any(map(is_contended, outcomes)):
            return batch, outcomes
        now = self.sources.monotonic_s()
        long_enough = 2 * (now - begun)
        again: set[AnyPending] = set()
        with self._lock:
            for pending, outcome in zip(batch, outcomes, strict=True):
                wanted = pending.state is State.IN_FLIGHT and pending.deadline - now > long_enough
                if wanted and is_contended(outcome):
                    pending.state = State.QUEUED
                    again.add(pending)
            theirs = {_session_of(pending) for pending in again}
            queue = [*(p for p in batch if p in again), *self._queue]
            queue.sort(key=lambda pending: _session_of(pending) in theirs)
            self._queue = deque(queue)
        done = [(p, outcome) for p, outcome in zip(batch, outcomes, strict=True) if p not in again]
        return [p for p, _ in done], [outcome for _, outcome in done]

    # Deadlines

    def _await_outcome(self, pending: Pending) -> Outcome:
        try:
            remaining_s = max(0.0, pending.deadline - self.sources.monotonic_s())
            in_time = pending.signal.acquire(timeout=remaining_s)
        finally:
            leave(pending, self._lock)
        if in_time or pending.outcome is not None:
            assert pending.outcome is not None
            return pending.outcome
        return refusals.not_sent() if self.withdraw(pending) else refusals.not_answered()

    def withdraw(self, pending: AnyPending) -> bool:
        """Take a write out of the queue, if it is there; false if its batch has started."""
        with self._lock:
            if pending.state not in (State.QUEUED, State.WITHDRAWN):
                if pending.state is State.IN_FLIGHT:
                    pending.state = State.ABANDONED
                return False
            pending.state = State.WITHDRAWN
            self._settled.notify_all()
            return True

    def _deadlines_of(self, loop: asyncio.AbstractEventLoop) -> Deadlines[AsyncPending]:
        found = self._deadlines.get(loop)
        if found is None:
            found = Deadlines(loop, self.sources.monotonic_s, self._expire_async)
            self._deadlines[loop] = found
        return found

    def _expire_async(self, pending: AsyncPending) -> None:
        if pending.future.done():
            return
        if self.withdraw(pending):
            pending.future.set_exception(refusals.not_sent())
        else:
            pending.future.set_exception(refusals.not_answered())


def _session_of(pending: AnyPending) -> tuple[str, str]:
    return pending.write.tenant, pending.write.session_id


def _result(outcome: Outcome) -> Result:
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
