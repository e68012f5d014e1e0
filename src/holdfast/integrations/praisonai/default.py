"""The process's one drop-in store, and how PraisonAI comes to use it."""

from __future__ import annotations

import os
import threading

from holdfast.integrations.praisonai.store import DefaultSessionStore

_default: DefaultSessionStore | None = None


def get_default_session_store() -> DefaultSessionStore:
    """Return the process's shared drop-in, on `holdfast.get_default_session_store()`.

    `PRAISONAI_SESSION_RETENTION` and `PRAISONAI_SESSION_ACTIVE_WINDOW` count, as in PraisonAI.
    """
    global _default  # noqa: PLW0603 - one store a process is what this function is for
    if _default is None:
        window = os.environ.get("PRAISONAI_SESSION_ACTIVE_WINDOW") or ""
        made = DefaultSessionStore(
            retention=os.environ.get("PRAISONAI_SESSION_RETENTION") or None,
            active_window=int(window) if window.isdecimal() else None,
        )
        with _default_lock:
            if _default is None:
                _default = made
    return _default


def install(store: DefaultSessionStore | None = None) -> DefaultSessionStore:
    """Make a store the one that PraisonAI's own `get_default_session_store` returns.

    Agents, teams and bots that are not given a store then use this one. Call it before they start.
    """
    import praisonaiagents.session.store as theirs

    theirs._default_store = found = store or get_default_session_store()
    return found


_default_lock = threading.Lock()
