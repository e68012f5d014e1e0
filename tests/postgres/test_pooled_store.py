"""Behind a proxy that lends connections for one transaction at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import holdfast
from holdfast.model.entry import MessageEntry
from holdfast.testing.postgres import PoolingProxy, Server

WORKERS = 8
EACH = 10


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """The address of a store behind a proxy with two connections to the server."""
    with PoolingProxy(server.port, size=2) as proxy:
        yield f"{proxy.url_for(server)}?schema=pooled"


def test_everything_works(url: str) -> None:
    """Adding, saving, turns, searching and deleting go on as ever, from stores that share it."""

    def work(number: int) -> None:
        with holdfast.connect(url) as store:
            for step in range(EACH):
                text = f"{number} says {step}"
                store.add_user_message("all", text, key=f"{number}-{step}")
                history = store.get_chat_history("all", 5)
                assert history
                with store.turn(f"of {number}", text) as turn:
                    turn.write("yes")
            assert len(store.search(f'"{number} says"', limit=100)) == 2 * EACH

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))
    with holdfast.connect(url) as store:
        assert len(store.get_chat_history("all")) == WORKERS * EACH
        assert store.verify().problems == []
        assert all(store.delete_session(info.id) for info in store.list_sessions())


def test_followers_hear_of_others(url: str) -> None:
    """No notification arrives there, so a follower looks by itself, several times a second."""
    with holdfast.connect(url) as store, holdfast.connect(url) as other:
        store.add_user_message("followed", "first")
        heard: list[str] = []
        began, done = threading.Event(), threading.Event()

        def follow() -> None:
            for entry in store.follow("followed"):
                if isinstance(entry, MessageEntry):
                    heard.extend(str(m["content"]) for m in entry.messages)
                    began.set()
                if heard[-1] == "last":
                    done.set()
                    return

        thread = threading.Thread(target=follow)
        thread.start()
        assert began.wait(10)
        other.add_user_message("followed", "last")
        assert done.wait(10)
        thread.join()
    assert heard == ["first", "last"]
