"""Hears of other processes' commits, and tells them of ours.

A notification is only a hint: it is sent after a commit and apart from it, at most once in a while
for all commits of a process, and whoever hears it reads again. One connection listens, while
somebody waits. Where notifications do not arrive, as behind a proxy that lends connections for one
transaction at a time, there is news at regular times instead.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import psycopg

from holdfast.errors import Unavailable
from holdfast.store.postgres.connections import Connection, Connections
from holdfast.store.postgres.queries import identifier

NOTIFY_S = 0.01
"""Commits that follow each other faster are told together."""

POLL_S = 0.05
"""How often there may be news where notifications do not arrive."""

STOP = "stop"
"""What a notification says where a turn was asked to stop: its worker wants to know at once."""

PROBE_S = 1.0
"""A notification of our own that takes longer does not arrive."""

PROBE_AGAIN_S = 60.0
IDLE_S = 1.0


class Watcher:
    """Waits for news from any process; one thread at a time."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._channel = _channel(connections)
        self._held = ExitStack()
        self._connection: Connection | None = None
        self._waits = False
        self._rests = False
        self._using = threading.Lock()
        self._lock = threading.RLock()
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._due = False
        self._probe_again_at = 0.0
        self.stops = 0

    @property
    def polls(self) -> bool:
        """Whether notifications were found not to arrive."""
        return self._connection is None and self._probe_again_at > 0

    def wait(self, timeout_s: float) -> bool:
        """Return true when something may have been committed, or when woken; else, false."""
        self._waits = True
        try:
            with self._using:
                return self._wait(timeout_s)
        except (psycopg.Error, Unavailable):
            self._stop()  # it is opened again by the next wait
            raise
        finally:
            self._waits = False

    def _wait(self, timeout_s: float) -> bool:
        may_listen = not self._rests and time.monotonic() >= self._probe_again_at
        if self._connection is None and may_listen:
            self._listen()
            self.stops += 1
            return True  # nobody listened until now, whatever was told
        connection = self._connection
        if connection is None:
            timeout_s = min(timeout_s, POLL_S)
        woken = self._bell()
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            if connection is not None:
                selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.select(timeout_s)
        with self._lock, suppress(BlockingIOError):
            # Where nobody listens there may always be news.
            found, self._due = self._due or connection is None, False
            woken.recv(4096)
        if connection is not None:
            connection.pgconn.consume_input()
            while (notice := connection.pgconn.notifies()) is not None:
                found = True
                self.stops += notice.extra == STOP.encode()
        return found

    def wake(self) -> None:
        """Let `wait` return now, from another thread."""
        with self._lock, suppress(OSError):
            self._due = True  # for a wait that has not begun
            if self._pair is not None:
                self._pair[1].send(b"\0")

    def wake_if_waiting(self) -> None:
        """The same, where it costs nothing if nobody waits."""
        if self._waits:
            self.wake()

    def rest(self, timeout_s: float) -> None:
        """Let go of the connection, and poll until `resume`: the process is about to fork."""
        self._rests = True
        self.wake()
        if self._using.acquire(timeout=timeout_s):
            try:
                self._stop()
            finally:
                self._using.release()

    def resume(self) -> None:
        """Listen again."""
        self._rests = False

    def close(self) -> None:
        """Let go of everything; it opens again when it is used."""
        self._stop()
        with self._lock:
            pair, self._pair = self._pair, None
        for one in pair or ():
            one.close()

    def __del__(self) -> None:
        """Close what a store that nobody closed has left."""
        for one in self._pair or ():
            one.close()

    def _stop(self) -> None:
        """Stop listening."""
        self._connection = None
        with suppress(psycopg.Error):
            self._held.close()

    def _bell(self) -> socket.socket:
        """Return what becomes readable when this is woken."""
        with self._lock:
            if self._pair is None:
                self._pair = socket.socketpair()
                for one in self._pair:
                    one.settimeout(0)
                if self._due:
                    self._pair[1].send(b"\0")
            return self._pair[0]

    def _listen(self) -> None:
        connection = self._held.enter_context(self._connections.lend())
        connection.execute(f"LISTEN {self._channel}")
        if self._hears(connection):
            self._connection = connection
        else:
            self._stop()
            self._probe_again_at = time.monotonic() + PROBE_AGAIN_S

    def _hears(self, connection: Connection) -> bool:
        """Say whether a notification that another connection sends arrives."""
        with self._connections.lend() as other:
            other.execute(f"NOTIFY {self._channel}")
        deadline = time.monotonic() + PROBE_S
        while (left_s := deadline - time.monotonic()) > 0:
            with selectors.DefaultSelector() as selector:
                selector.register(connection.fileno(), selectors.EVENT_READ)
                selector.select(left_s)
            connection.pgconn.consume_input()
            if connection.pgconn.notifies() is not None:
                return True
        return False


def _channel(connections: Connections) -> str:
    """Return the name under which a store's news are told; PostgreSQL cuts a long one short."""
    return identifier(f"{connections.address.schema}_news")


class Notifier:
    """Tells other processes that this one has committed, on a thread of its own.

    `chore` is called after that, on the same connection: it does a little of what commits leave to
    be done, and says whether there is more.
    """

    def __init__(self, connections: Connections, chore: Callable[[Connection], bool]) -> None:
        self._connections = connections
        self._chore = chore
        self._channel = _channel(connections)
        self._start_fresh()

    def _start_fresh(self) -> None:
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._due = False
        self._stop = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def tell(self, *, stop: bool) -> None:
        """Tell it soon, and return at once; `stop` says that a turn was asked to stop."""
        with self._lock:
            self._stop = self._stop or stop
            if self._due or self._closed:
                return
            self._due = True
            self._change.notify()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="holdfast-notifier", daemon=True)
                thread.start()
                self._thread = thread

    def close(self) -> None:
        """Tell what is still to be told, and end the thread."""
        with self._lock:
            self._closed = True
            self._change.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(PROBE_S)
        with self._lock:
            self._closed = False

    def after_fork_in_child(self) -> None:
        """Start anew: the thread is not here."""
        self._start_fresh()

    def _run(self) -> None:
        with self._lock:
            if self._thread not in (None, threading.current_thread()):
                return
            self._thread = threading.current_thread()
        more = False
        while True:
            with self._lock:
                self._change.wait_for(lambda: self._due or self._closed, 0 if more else IDLE_S)
                if not self._due and (self._closed or not more):
                    self._thread = None
                    return
                due, self._due = self._due, False
                stop, self._stop = self._stop, False
            more = False
            # Whoever cannot be told reads again when its own wait is over.
            with suppress(Exception), self._connections.lend() as connection:
                if due:
                    connection.execute(self._notification(stop=stop))
                more = self._chore(connection)
            time.sleep(NOTIFY_S)

    def _notification(self, *, stop: bool) -> str:
        # A transaction of its own, which need not wait for the disk.
        what = f"{self._channel}, '{STOP}'" if stop else self._channel
        return f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {what}; COMMIT"
