"""The other face of a store that is open: the same engine, for callers of the other kind."""

from __future__ import annotations

from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.engine import Engine
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


def engine_of(store: SessionStore) -> Engine:
    """Return what an open store's faces have in common."""
    return store._engine


def open_turn(store: SessionStore, session_id: str) -> str | None:
    """Return the id of the session's turn that runs or waits, if there is one."""
    row = store._reading.live_row(session_id)
    return None if row is None else row.open_turn
