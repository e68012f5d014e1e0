"""On which read a plain list is saved: nobody's messages are lost, and none is there twice."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import Conflict, SessionNotFound
from holdfast.integrations.praisonai import DefaultSessionStore
from holdfast.model.entry import MessageEntry
from tests.praisonai.conftest import Start, heard, user


def texts(store: DefaultSessionStore, session_id: str = "s") -> list[str]:
    """Return what stands in a session now; this is no read of the drop-in's."""
    return [message["content"] for message in store.store.get_chat_history(session_id)]


def plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return copies that remember nothing."""
    return json.loads(json.dumps(messages))  # type: ignore[no-any-return] # what was dumped


def elsewhere(function: Callable[[], Any]) -> Any:
    """Call something in a new thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_four_workers(start_here: Start, tmp_path: Path) -> None:
    """Four processes load, think and save one session without a lock: 800 of 800 are there."""
    path = tmp_path / "chats.db"
    workers = [start_here("saver", path, "s", f"worker{number}", 200) for number in range(4)]
    assert [heard(worker) for worker in workers] == [200] * 4
    found = texts(DefaultSessionStore(path))
    assert len(found) == 800
    assert set(found) == {
        f"worker{worker}-{number}" for worker in range(4) for number in range(200)
    }
    for worker in range(4):
        own = [text for text in found if text.startswith(f"worker{worker}-")]
        assert own == [f"worker{worker}-{number}" for number in range(200)]


@pytest.mark.parametrize("kept", [0, 10])
def test_tasks_with_threads_of_a_pool(store: DefaultSessionStore, *, kept: int) -> None:
    """Tasks that load and save on any thread of a pool lose nothing, also if they cut the list."""

    async def work(name: int) -> None:
        for number in range(20):
            history = list(await asyncio.to_thread(store.get_chat_history, "s"))
            history.append(user(f"{name}-{number}"))
            await asyncio.to_thread(store.set_chat_history, "s", history[-kept:])

    async def all_of_them() -> None:
        await asyncio.gather(*map(work, range(8)))

    asyncio.run(all_of_them())
    entries = store.store.read_entries("s")
    ids = {
        one["id"] for entry in entries if isinstance(entry, MessageEntry) for one in entry.messages
    }
    assert len(ids) == 160
    if not kept:
        assert len(texts(store)) == 160


def test_the_messages_know_their_read(store: DefaultSessionStore) -> None:
    """A list is saved on the read that its messages came with, whatever was read since."""
    store.set_chat_history("s", [user("1")])
    early = store.get_chat_history("s")
    elsewhere(lambda: store.add_user_message("s", "other"))
    store.get_chat_history("s")
    store.set_chat_history("s", [*early, user("2")])
    assert texts(store) == ["1", "other", "2"]


def test_the_last_read_of_this_thread(store: DefaultSessionStore) -> None:
    """Copies of messages are saved on the thread's own last read, not on another thread's."""
    store.set_chat_history("s", [user("1")])
    early = plain(store.get_chat_history("s"))
    store.store.add_user_message("s", "other")
    elsewhere(lambda: store.get_chat_history("s"))
    store.set_chat_history("s", [*early, user("2")])
    assert texts(store) == ["1", "other", "2"]


def test_the_last_read_of_this_task(store: DefaultSessionStore) -> None:
    """Copies of messages are saved on the task's own last read, not on another task's."""
    store.set_chat_history("s", [user("1")])

    async def work(name: str, barrier: asyncio.Barrier) -> None:
        messages = plain(store.get_chat_history("s"))
        await barrier.wait()
        store.set_chat_history("s", [*messages, user(name)])

    async def all_of_them() -> None:
        barrier = asyncio.Barrier(3)
        await asyncio.gather(*(work(name, barrier) for name in "abc"))

    asyncio.run(all_of_them())
    assert sorted(texts(store)) == ["1", "a", "b", "c"]


def test_a_parents_read_is_not_the_tasks(store: DefaultSessionStore) -> None:
    """A read that a task inherited with its context does not stand before the process's last."""
    store.set_chat_history("s", [user("1")])

    async def main() -> None:
        store.get_chat_history("s")
        store.store.add_user_message("s", "other")
        # A thread of a pool reads for this task, and another saves for it, as bots do.
        context = copy_context()
        read = plain(elsewhere(lambda: context.run(store.get_chat_history, "s")))
        later = copy_context()
        elsewhere(lambda: later.run(store.set_chat_history, "s", [*read, user("2")]))

    asyncio.run(main())
    assert texts(store) == ["1", "other", "2"]


def test_the_processes_last_read(store: DefaultSessionStore) -> None:
    """Where this thread has read nothing, the process's last read of the session is the base."""
    store.set_chat_history("s", [user("1")])
    read = plain(elsewhere(lambda: store.get_chat_history("s")))
    store.store.add_user_message("s", "other")
    store.set_chat_history("s", [*read, user("2")])
    assert texts(store) == ["1", "other", "2"]


def test_without_a_read(store: DefaultSessionStore) -> None:
    """A session that was never read becomes exactly the list that is saved."""
    store.set_chat_history("s", [user("1")])
    store.store.add_user_message("s", "other")
    store.set_chat_history("s", [user("2")])
    assert texts(store) == ["2"]


def test_lists_that_were_read_empty(store: DefaultSessionStore) -> None:
    """Two threads that read an empty session and save in others both keep their message."""
    first, second = (elsewhere(lambda: store.get_chat_history("s")) for _ in range(2))
    elsewhere(lambda: store.set_chat_history("s", [*first, user("1")]))
    elsewhere(lambda: store.set_chat_history("s", [*second, user("2")]))
    assert texts(store) == ["1", "2"]


def test_a_list_that_is_saved_again(store: DefaultSessionStore) -> None:
    """A list that goes on after it was saved adds what is new, and nothing twice."""
    history = store.get_chat_history("s")
    for number in range(3):
        history.append(user(f"{number}"))
        assert store.set_chat_history("s", history)
        assert store.set_chat_history("s", history)
        store.store.add_user_message("s", f"other {number}")
    assert texts(store) == ["0", "other 0", "1", "other 1", "2", "other 2"]


def test_two_lists_of_one_thread(store: DefaultSessionStore) -> None:
    """Two reads of one thread that add the same words are two messages."""
    store.add_user_message("s", "1")
    one, two = store.get_chat_history("s"), store.get_chat_history("s")
    store.set_chat_history("s", [*one, user("ok")])
    store.set_chat_history("s", [*two, user("ok")])
    assert texts(store) == ["1", "ok", "ok"]


def test_one_list_in_two_threads(store: DefaultSessionStore) -> None:
    """Threads that were handed one list each add their own to it."""
    store.add_user_message("s", "1")
    history = store.get_chat_history("s")
    for name in ("a", "b"):
        elsewhere(partial(store.set_chat_history, "s", [*history, user(name)]))
    assert texts(store) == ["1", "a", "b"]


def test_rewrites(store: DefaultSessionStore) -> None:
    """A changed list is the new beginning, and what others added since follows it."""
    for text in "123":
        store.add_user_message("s", text)
    history = store.get_chat_history("s")
    store.store.add_user_message("s", "other")
    history[0] = user("one")
    store.set_chat_history("s", history[:2])
    assert texts(store) == ["one", "2", "other"]
    with pytest.raises(Conflict, match="it lacks their messages"):
        store.set_chat_history("s", [user("new")])
    store.get_chat_history("s")
    store.set_chat_history("s", [user("new")])
    assert texts(store) == ["new"]


def test_two_rewrites(store: DefaultSessionStore) -> None:
    """Of two that cut one history the first stands, and the second's new messages are added."""
    for text in "123":
        store.add_user_message("s", text)
    one, two, three = (store.get_chat_history("s") for _ in range(3))
    store.set_chat_history("s", [*one[1:], user("4")])
    summary = {"role": "system", "content": "They counted."}
    store.set_chat_history("s", [summary, *two[2:], user("5")])
    assert texts(store) == ["2", "3", "4", "5"]
    with pytest.raises(Conflict):
        store.set_chat_history("s", [user("redacted"), *three[1:], user("6")])
    assert texts(store) == ["2", "3", "4", "5"]


def test_windows(tmp_path: Path) -> None:
    """A store that shows the last messages appends to all of them."""
    store = DefaultSessionStore(tmp_path, max_messages=2)
    for text in "123":
        store.add_user_message("s", text)
    history = store.get_chat_history("s")
    assert [message["content"] for message in history] == ["2", "3"]
    store.set_chat_history("s", [*history, user("4")])
    assert texts(store) == ["1", "2", "3", "4"]
    assert len(store.get_chat_history("s", 3)) == 3
    kept = DefaultSessionStore(tmp_path, max_messages=2, retention="keep_all")
    assert len(kept.get_chat_history("s")) == 4


def test_tool_calls_that_reading_closed(store: DefaultSessionStore) -> None:
    """A result that reading invented for an open call is not stored when the list comes back."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    store.add_message("s", "assistant", None, tool_calls=[call])
    history = store.get_chat_history("s")
    assert len(history) == 2
    store.set_chat_history("s", [*history, user("go on")])
    assert [one["role"] for one in store.store.get_messages("s")] == ["assistant", "user"]
    history = store.get_chat_history("s")
    history[0]["tool_calls"][0]["id"] = "changed in place"
    store.set_chat_history("s", history)
    assert store.store.get_messages("s")[0]["tool_calls"][0]["id"] == "changed in place"


def test_a_deleted_session_stays_away(store: DefaultSessionStore) -> None:
    """A list of a session that was deleted since does not bring it back."""
    store.add_user_message("s", "1")
    history = store.get_chat_history("s")
    store.delete_session("s")
    with pytest.raises(SessionNotFound):
        store.set_chat_history("s", [*history, user("2")])
    assert not store.session_exists("s")


def test_lists_of_other_sessions(store: DefaultSessionStore) -> None:
    """Messages that were read from one session are new ones in another."""
    store.add_user_message("s", "1")
    history = store.get_chat_history("s")
    store.set_chat_history("t", history)
    assert texts(store, "t") == ["1"]


def test_messages_are_dicts(store: DefaultSessionStore) -> None:
    """What is handed out equals plain dicts, and its copies are plain dicts."""
    store.add_user_message("s", "1")
    (message,) = store.get_chat_history("s")
    assert message == user("1")
    for copied in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert type(copied) is dict
        assert copied == message


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """As many sessions' reads are kept as the store was told."""
    store = DefaultSessionStore(tmp_path, cache_maxsize=2)
    for name in "abc":
        store.add_user_message(name, "1")
        elsewhere(partial(store.get_chat_history, name))
    store.store.add_user_message("a", "other")
    store.set_chat_history("a", [user("2")])
    assert texts(store, "a") == ["2"]
    store.store.add_user_message("c", "other")
    store.set_chat_history("c", [user("1"), user("2")])
    assert texts(store, "c") == ["1", "other", "2"]


def test_threads_at_once(store: DefaultSessionStore) -> None:
    """Threads that load and save without a lock keep everything."""

    def work(name: int) -> None:
        for number in range(25):
            history = plain(store.get_chat_history("s"))
            store.set_chat_history("s", [*history, user(f"{name}-{number}")])

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(store)) == len(set(texts(store))) == 100
