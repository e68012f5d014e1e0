"""`connect`, `connect_async` and the process's shared store."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from holdfast.errors import ConfigError, HoldfastError
from holdfast.rules.arguments import check_id
from holdfast.store.engine import Engine
from holdfast.store.sources import Sources
from holdfast.store.sqlite.connections import Durability
from holdfast.store.sync_store import SessionStore
from holdfast.store.urls import backend_for, default_url, make_data_folder

if TYPE_CHECKING:
    from holdfast.store.async_store import AsyncSessionStore

TIMEOUT_S = 30.0


def connect(
    url: str | os.PathLike[str] | None = None,
    *,
    tenant: str | None = None,
    durability: Durability = "full",
    timeout: float = TIMEOUT_S,
    migrate: bool = True,
    sources: Sources | None = None,
) -> SessionStore:
    """Open a store, and make it if it is new.

    `url` is a path, `sqlite:///relative.db`, `sqlite:////absolute.db` or `memory://`; without one,
    `HOLDFAST_URL`, else a file in the user's data folder. `tenant` is `HOLDFAST_TENANT` or
    `"default"`. A write that cannot start within `timeout` seconds raises `Unavailable`.
    `durability="relaxed"` lets a power failure take the last commits. A store that an older
    Holdfast made is brought up to date, or refused with `migrate=False` (`NotSupported`, which
    names the command). `sources` gives time and ids, for tests. The store is checked and let go:
    each process opens connections when it needs them.
    """
    sources = sources or Sources()
    return SessionStore(
        open_engine(url, durability, timeout, sources, migrate=migrate),
        _tenant(tenant),
        sources,
        timeout,
    )


def connect_async(
    url: str | os.PathLike[str] | None = None,
    *,
    tenant: str | None = None,
    durability: Durability = "full",
    timeout: float = TIMEOUT_S,
    migrate: bool = True,
    sources: Sources | None = None,
) -> Connecting:
    """Open a store for asyncio, as `connect` does: `await` it, or use it with `async with`."""
    sources = sources or Sources()
    tenant = _tenant(tenant)

    def open_store() -> AsyncSessionStore:
        from holdfast.store.async_store import AsyncSessionStore

        engine = open_engine(url, durability, timeout, sources, migrate=migrate)
        return AsyncSessionStore(engine, tenant, sources, timeout)

    return Connecting(open_store)


class Connecting:
    """An asynchronous store about to be opened."""

    def __init__(self, open_store: Callable[[], AsyncSessionStore]) -> None:
        self._open_store = open_store
        self._store: AsyncSessionStore | None = None

    async def _open(self) -> AsyncSessionStore:
        import asyncio

        self._store = await asyncio.to_thread(self._open_store)
        return self._store

    def __await__(self) -> Generator[Any, None, AsyncSessionStore]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncSessionStore:
        return await self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._store is not None:
            await self._store.close()


_default_lock = threading.Lock()
_default: SessionStore | None = None


def get_default_session_store() -> SessionStore:
    """Return the process's shared store: `connect()` without arguments, called once."""
    global _default  # noqa: PLW0603 - one store a process is what this function is for
    with _default_lock:
        if _default is None or _default.closed:
            _default = connect()
        return _default


def _renew_default_lock() -> None:
    global _default_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _default_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_default_lock)


def _tenant(tenant: str | None) -> str:
    if tenant is None:
        tenant = os.environ.get("HOLDFAST_TENANT") or "default"
    return check_id(tenant, "tenant")


def open_engine(
    url: str | os.PathLike[str] | None,
    durability: Durability,
    timeout_s: float,
    sources: Sources,
    *,
    migrate: bool,
) -> Engine:
    """Open the store that an address names, as `connect` does, for whatever tenant."""
    try:
        sensible = 0 < timeout_s <= threading.TIMEOUT_MAX
    except TypeError:
        sensible = False
    if not sensible:
        raise ConfigError(f"timeout={timeout_s!r} must be a number of seconds above 0")
    if url is None:
        url = default_url()
        if not os.environ.get("HOLDFAST_URL"):
            make_data_folder()
    backend = backend_for(
        os.fspath(url) if isinstance(url, os.PathLike) else url,
        durability=durability,
        timeout_s=timeout_s,
        sources=sources,
    )
    backend.open(migrate=migrate)
    engine = Engine(backend, sources)
    _open_engines.add(engine)
    return engine


_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Commit what is queued before the process ends."""
    for engine in list(_open_engines):
        with contextlib.suppress(HoldfastError):  # one that cannot be closed must not stop others
            engine.close()
