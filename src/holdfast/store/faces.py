"""The other face of a store that is open: the same engine, for callers of the other kind."""

from __future__ import annotations

from msgspec import Struct

from holdfast.rules.turns import is_alive
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.sync_store import SessionStore


def async_face(store: SessionStore | AsyncSessionStore) -> AsyncSessionStore:
    """Return the store for tasks; closing either face closes both."""
    if isinstance(store, AsyncSessionStore):
        return store
    engine = store._engine
    return AsyncSessionStore(engine, store.tenant, engine.sources, store._shell._timeout_s)


def sync_face(store: SessionStore | AsyncSessionStore) -> SessionStore:
    """Return the store for threads; closing either face closes both."""
    if isinstance(store, SessionStore):
        return store
    engine = store._engine
    return SessionStore(engine, store.tenant, engine.sources, store._shell._timeout_s)


def open_turn(store: SessionStore, session_id: str) -> str | None:
    """Return the id of the session's turn that runs or waits, if there is one."""
    row = store._reading.live_row(session_id)
    return None if row is None else row.open_turn


class Holder(Struct, frozen=True):
    """The worker that runs a session's turn.

    `left_s` is for how many seconds its lease still holds if it is not renewed: so long a session
    stays taken whose worker has died.
    """

    worker: str
    left_s: float


def holder(store: SessionStore, session_id: str) -> Holder | None:
    """Return who runs the session's turn, if a worker does whose lease holds; it only reads.

    It goes by this machine's clock, and the lease by the store's.
    """
    row = store._reading.live_row(session_id)
    now = store._engine.sources.now_ms()
    if row is None or not is_alive(row, now):
        return None
    return Holder(row.lease_owner or "another worker", (row.lease_until - now) / 1000)
