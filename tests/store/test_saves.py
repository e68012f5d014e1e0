"""Saving a history when something comes between its parts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import InvalidMessage, OutcomeUnknown, Unavailable
from holdfast.store.reading import Reading


def contents(history: list[dict[str, object]]) -> list[object]:
    """What a history says."""
    return [message["content"] for message in history]


def test_an_unrepaired_history_saved_unchanged_stays_as_it_is() -> None:
    """A view that is the beginning of another is not taken for it."""
    with holdfast.connect("memory://") as store:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        store.add_message("a", "assistant", None, tool_calls=[call])
        for _ in range(2):
            store.add_message("a", "tool", "r", tool_call_id="c")
        for _ in range(3):
            history = store.get_chat_history("a", repair=False)
            store.set_chat_history("a", history)
        assert len(store.get_messages("a")) == 3


def test_a_save_is_not_denied_by_what_follows_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store fails after the commit, the save succeeded; the list is not saved twice."""
    with holdfast.connect(url) as store:
        store.add_user_message("a", "0")
        history = store.get_chat_history("a")
        history.append({"role": "user", "content": "1"})

        def fail(*_: object, **__: object) -> None:
            raise Unavailable("closed meanwhile")

        with monkeypatch.context() as patch:
            patch.setattr(Reading, "after_save", fail)
            assert store.set_chat_history("a", history).revision > 0
        with pytest.raises(InvalidMessage, match="read it again"):
            store.set_chat_history("a", history)
        assert contents(store.get_chat_history("a")) == ["0", "1"]


def test_a_change_that_was_written_is_never_called_unavailable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Unavailable` means not written; what was written and cannot be read back is said so."""
    with holdfast.connect(url) as store:

        def fail(*_: object) -> None:
            raise Unavailable("closed meanwhile")

        with monkeypatch.context() as patch:
            patch.setattr(Reading, "session", fail)
            with pytest.raises(OutcomeUnknown, match="was written"):
                store.create_session("a", title="there")
        assert store.get_session("a").title == "there"


def test_what_is_appended_during_a_save_is_kept_for_the_next(url: str) -> None:
    """A list that grows while it is being saved loses nothing."""

    async def run() -> None:
        async with holdfast.connect_async(url) as store:
            await store.add_user_message("a", "0")
            history = await store.get_chat_history("a")
            history.append({"role": "user", "content": "1"})
            saving = asyncio.create_task(store.set_chat_history("a", history))
            while len(await store.get_chat_history("a")) < 2:
                pass  # each read lets the save go on
            history.append({"role": "user", "content": "2"})
            await saving
            await store.set_chat_history("a", history)
            assert contents(await store.get_chat_history("a")) == ["0", "1", "2"]
            assert contents(history) == ["0", "1", "2"]

    asyncio.run(run())


def test_invented_results_are_not_stored_by_adding_either(url: str) -> None:
    """Adding a read history to another session leaves out what reading invented."""
    with holdfast.connect(url) as store:
        store.add_message("a", "assistant", None, tool_calls=[{"id": "c"}])
        history = store.get_chat_history("a")
        assert len(history) == 2
        store.add_messages("b", history)
        assert len(store.get_messages("b")) == 1


def test_verify_misses_no_session_that_is_written_to_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It walks over sessions by key, so one that moves to the front is not skipped."""
    monkeypatch.setattr("holdfast.store.walking._PAGE", 4)
    with holdfast.connect(url) as store:
        for number in range(12):
            store.add_user_message(f"s{number}", "x")
        sessions_after = store._engine.backend.sessions_after

        def and_write(tenant: str, pk: int, limit: int) -> object:
            page = sessions_after(tenant, pk, limit)
            store.add_user_message("s9", "moves to the front")
            return page

        monkeypatch.setattr(store._engine.backend, "sessions_after", and_write)
        assert store.verify().sessions == 12


def test_damaged_metadata_hides_neither_its_session_nor_others(tmp_path: Path) -> None:
    """A listing shows the session, says that it is damaged, and goes on."""
    import sqlite3

    path = tmp_path / "a.db"
    with holdfast.connect(str(path)) as store:
        store.create_session("a", metadata={"k": 1})
        store.create_session("b", metadata={"k": 2})
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE sessions SET meta = '{broken' WHERE id = 'a'")
    connection.close()
    with holdfast.connect(str(path)) as store:
        states = {info.id: (info.status, info.metadata) for info in store.list_sessions()}
        assert states == {"a": ("damaged", {}), "b": ("idle", {"k": 2})}
        assert not store.verify("a")
