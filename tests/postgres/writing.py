"""All that a store can write, each write by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from holdfast import SessionStore
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for


def write(store: SessionStore, names: Iterator[str], url: str) -> None:
    """Write in every way, with sessions of these names, which may be there."""
    name = next(names)
    for key in ("k1", "k1", "k2"):
        store.add_user_message(name, "hello", key=key)
    rewritten(store, next(names))
    turned(store, next(names))
    waited(store, next(names), url)
    store.update_session_metadata(name, seen=True)
    store.label(name, "here")
    store.clear_session(name)
    store.rewind_session(name, "here")
    store.recover()
    store.search("meanwhile")
    store.import_session(store.export_session(name), f"{name} again")
    store.delete_session(name)


def rewritten(store: SessionStore, name: str) -> None:
    """Rewrite a history that somebody added to meanwhile, and purge the one before."""
    store.add_user_message(name, "first")
    history = store.get_chat_history(name)
    store.add_user_message(name, "meanwhile")
    assert store.set_chat_history(name, [{"role": "user", "content": "x"}, *history][:1]).kept == 0
    history = store.get_chat_history(name)
    store.add_user_message(name, "meanwhile")
    history.insert(0, {"role": "user", "content": "before"})
    assert store.set_chat_history(name, history).kept == 1
    store.fork_session(name)
    store.purge(name, older_than=timedelta(0))


def turned(store: SessionStore, name: str) -> None:
    """Run a turn, repeat it, and read what it left."""
    with store.turn(name, "hello", key="turn") as turn:
        turn.write("an answer")
        turn.record_usage(input_tokens=1, output_tokens=1)
    with store.turn(name, "hello", key="turn") as again:
        assert again.replayed
    store.get_chat_history(name, at=turn.id)
    store.get_chat_history(name, at=-1)


def waited(store: SessionStore, name: str, url: str) -> None:
    """Run a turn, and then one that stood in line for it."""

    def follow() -> None:
        with store.turn(name, "me too"):
            pass

    backend = backend_for(url, durability="full", timeout_s=30, sources=Sources())
    thread = threading.Thread(target=follow)
    with store.turn(name, "hello"):
        thread.start()
        deadline = time.monotonic() + 30
        while backend.waiting(store.tenant, name) == 0:
            assert time.monotonic() < deadline, "nobody waits"
    thread.join()
    backend.close()
