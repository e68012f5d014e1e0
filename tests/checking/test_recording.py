"""The recording: what is in it whatever happens to the client, and of both faces of a store."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import Conflict, OutcomeUnknown
from holdfast.model.message import Message
from holdfast.testing.checking import ClientLog, RecordedStore, Rule, judge, read_recording
from holdfast.testing.checking.operation import (
    NEVER,
    THERE,
    Add,
    Committed,
    Delete,
    Operation,
    Place,
    Read,
    Refused,
    Save,
    Seen,
    Unknown,
)
from holdfast.testing.checking.recorder import drive
from holdfast.testing.checking.recording import read_operations


def user(text: str) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": text}


async def _talk(store: RecordedStore) -> None:
    await store.add_messages("a", [user("1"), user("2")], key="k")
    await store.add_messages("a", [user("1"), user("2")], key="k")
    history = await store.get_chat_history("a")
    history.append(user("3"))
    await store.set_chat_history("a", history)
    await store.edit_history("a", lambda history: [user("s"), *history[2:]])
    with pytest.raises(Conflict):
        await store.add_messages("a", [user("4")], expected_revision=history.revision)
    await store.read_entries("a")
    await store.rename_session("a", "A title")
    await store.clear_session("a")
    await store.delete_session("a")


def _operations(folder: Path) -> list[Operation]:
    return [one for session in read_recording(folder).values() for one in session]


def test_both_faces_are_recorded_alike(tmp_path: Path) -> None:
    """The same calls leave the same recording, whether they block or are awaited."""
    for name in ("blocking", "awaited"):
        (tmp_path / name).mkdir()
    with (
        holdfast.connect("memory://") as store,
        contextlib.closing(ClientLog(tmp_path / "blocking", "c")) as log,
    ):
        drive(_talk(RecordedStore(store, log)))

    async def await_all() -> None:
        with contextlib.closing(ClientLog(tmp_path / "awaited", "c")) as log:
            async with holdfast.connect_async("memory://") as store:
                await _talk(RecordedStore(store, log))

    asyncio.run(await_all())
    blocking, awaited = (_operations(tmp_path / name) for name in ("blocking", "awaited"))
    assert [(one.call, one.outcome) for one in blocking] == [
        (one.call, one.outcome) for one in awaited
    ]
    assert all(one.invoked < one.answered for one in blocking)
    assert judge(read_recording(tmp_path / "awaited")).violations == []


def test_what_an_operation_is_recorded_as(tmp_path: Path) -> None:
    """A replay, an edit, a conflict and a deletion are in the recording as what they are."""
    with (
        holdfast.connect("memory://") as store,
        contextlib.closing(ClientLog(tmp_path, "c")) as log,
    ):
        drive(_talk(RecordedStore(store, log)))
    add, again, read, save, edit_read, edit_save, refused, *_, deleted = _operations(tmp_path)
    assert add.call == Add(("user:1", "user:2"), None, "k")
    assert isinstance(again.outcome, Committed)
    assert again.outcome.replayed
    assert read.outcome == Seen((1 << 32) + 1, ("user:1", "user:2"))
    assert isinstance(save.call, Save)
    assert save.call.base == (1 << 32) + 1
    assert isinstance(save.outcome, Committed)
    assert save.outcome.settled == Seen((1 << 32) + 2, ("user:1", "user:2", "user:3"))
    assert edit_read.call == Read()
    assert edit_save.call == Save(("user:s", "user:3"), (1 << 32) + 2)
    assert isinstance(refused.outcome, Refused)
    assert refused.outcome.code == "conflict"
    assert (deleted.call, deleted.outcome) == (Delete(), THERE)


def test_an_edit_that_met_a_conflict(tmp_path: Path) -> None:
    """An edit that had to begin again is two reads and two saves, the first of them refused."""
    with (
        holdfast.connect("memory://") as store,
        contextlib.closing(ClientLog(tmp_path, "c")) as log,
    ):
        store.add_messages("a", [user("1")])
        rivals = iter([True, False])

        def edited(history: holdfast.History) -> list[Message]:
            if next(rivals):
                store.set_chat_history("a", [user("rival")])
            return [user("edited"), *history]

        drive(RecordedStore(store, log).edit_history("a", edited))
    found = sorted(_operations(tmp_path), key=lambda one: one.number)
    assert [type(one.call) for one in found] == [Read, Save, Read, Save]
    assert found[1].outcome == Refused("conflict")
    assert isinstance(found[3].outcome, Committed)


def test_an_unknown_outcome_is_recorded_as_unknown(tmp_path: Path) -> None:
    """`OutcomeUnknown` and whatever is no error of Holdfast's leave the outcome open."""

    class Cut:
        tenant = "north"

        def add_messages(self, *_: object, **__: object) -> holdfast.Commit:
            raise OutcomeUnknown("no answer came")

    with contextlib.closing(ClientLog(tmp_path, "c")) as log:
        store = RecordedStore(Cut(), log)  # type: ignore[arg-type] # all of it that is called
        with pytest.raises(OutcomeUnknown):
            drive(store.add_messages("a", [user("1")]))
    assert [one.outcome for one in _operations(tmp_path)] == [Unknown()]


def test_a_killed_client_left_what_it_was_about_to_do(tmp_path: Path) -> None:
    """An operation without an answer is unknown, half a line is none, and the next life goes on."""
    place = Place("north", "a")
    log = ClientLog(tmp_path, "c")
    log.answer(log.invoke(place, Read()), Seen(0, ()), 1)
    log.invoke(place, Add(("user:1",)))
    log.close()
    path = tmp_path / "c.operations.jsonl"
    with path.open("ab") as file:
        file.write(b'{"type":"answered","number":2,"at"')
    last = read_operations(path)[-1]
    assert (last.answered, last.outcome) == (NEVER, Unknown())
    with contextlib.closing(ClientLog(tmp_path, "c")) as log:
        assert log.resume()[-1] == last
        assert log.invoke(place, Read()) == 3
    assert [one.number for one in read_operations(path)] == [1, 2, 3]


def test_a_recording_of_a_real_loss(tmp_path: Path) -> None:
    """A client that saves without a base loses what another added, and that is no fault of ours."""
    with (
        holdfast.connect("memory://") as store,
        contextlib.closing(ClientLog(tmp_path, "final")) as last,
        contextlib.closing(ClientLog(tmp_path, "c")) as log,
    ):
        client = RecordedStore(store, log)
        drive(client.add_messages("a", [user("1")]))
        plain = list(drive(client.get_chat_history("a")))
        drive(client.add_messages("a", [user("2")]))
        drive(client.set_chat_history("a", [*plain, user("3")]))
        final = RecordedStore(store, last)
        drive(final.read_entries("a"))
        drive(final.get_chat_history("a"))
    recording = read_recording(tmp_path)
    assert judge(recording).violations == []
    (place, operations), *_ = recording.items()
    recording[place] = operations[:2] + operations[3:]  # the add that nobody knows of any more
    assert {one.rule for one in judge(recording).violations} == {Rule.PHANTOM}
