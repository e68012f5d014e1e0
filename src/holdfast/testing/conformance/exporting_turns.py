"""Exporting and importing sessions that have turns."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from holdfast.errors import InvalidExport
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.exporting import assert_twins
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts
from holdfast.testing.conformance.tools import call
from holdfast.testing.conformance.turning import echo, fail, first_delta, reasons


def fill(store: SessionStore, session_id: str) -> None:
    """Make a session with turns that ended in every way."""
    store.add_user_message(session_id, "before")
    with store.turn(session_id, "Time?", key="prompt", user_id="ada") as turn:
        turn.add_message("assistant", None, tool_calls=call("c1")["tool_calls"])
        turn.record_usage(model="m", input_tokens=3)
        turn.add_message("tool", "noon", tool_call_id="c1")
        turn.write("Noon.")
    with contextlib.suppress(RuntimeError):
        fail(store.turn(session_id, '"prompt"'), "half")
    store.set_chat_history(session_id, store.get_chat_history(session_id)[1:])
    with store.turn(session_id) as turn:
        turn.record_usage(unknown=True)


class ExportingTurns(Conformance):
    """A session's turns come back with it, and go on where they can."""

    def test_twins(self, store: SessionStore, subject: Subject) -> None:
        """Every entry of every turn comes back, in another store, for another tenant."""
        fill(store, "s")
        other = subject.open("other")
        other.import_session(store.export_session("s"))
        assert_twins(store, "s", other, "s")
        with other.turn("s", "And now?") as turn:
            list(turn.stream(echo))
        assert other.verify().problems == []

    def test_keys(self, store: SessionStore) -> None:
        """A turn's key gives back in the import what the turn recorded; a failed one goes on."""
        fill(store, "s")
        store.import_session(store.export_session("s"), "t")
        said = texts(store.get_chat_history("t"))
        with store.turn("t", "Time?", key="prompt") as turn:
            assert (turn.replayed, texts(turn.messages)) == (True, [None, "noon", "Noon."])
        assert texts(store.get_chat_history("t")) == said

    def test_open_turn(self, store: SessionStore, subject: Subject) -> None:
        """A turn that runs is without a worker where it is imported: the next one closes it."""
        with store.turn("s", "one") as turn:
            turn.write("shown")
            first_delta(store)
            store.import_session(store.export_session("s"), "t")
            assert store.get_session("t").status == "running"
            other = subject.open("other")
            other.import_session(store.export_session("s"))
            assert other.recover() == 1
            assert reasons(other) == [None, "crashed"]
            assert texts(other.get_chat_history("s")) == ["one", "shown"]
        with store.turn("t", "two", on_busy="reject"):
            pass
        assert texts(store.get_chat_history("t")) == ["one", "shown", "two"]
        assert texts(store.get_chat_history("s")) == ["one", "shown"]
        for each in (store, other):
            assert each.verify().problems == []

    @pytest.mark.parametrize(
        ("kind", "change"),
        [
            ("turn", {"turn": None}),
            ("turn", {"turn": "turn_of_another"}),
            ("turn", {"attempt": 2}),
            ("turn", {"attempt": -1}),
            ("turn", {"payload": {"turn": "t", "attempt": 1, "status": "sleeping"}}),
            ("turn", {"payload": None}),
            ("turn.prompt", 1 << 40),
            ("turn.prompt", None),
            ("turn.prompt", -1),
            ("usage", {"turn": None}),
            ("usage", {"payload": {"call": "c", "input_tokens": -1}}),
            ("usage", {"payload": {"call": "c", "input_tokens": 1 << 63}}),
            ("usage", {"payload": {}}),
            ("delta", {"payload": {"call": 0, "offset": -1, "text": "x"}}),
            ("delta", {"kind": "unknown"}),
        ],
        ids=str,
    )
    def test_damaged(self, store: SessionStore, kind: str, change: Any) -> None:
        """An entry of a turn that cannot be one is refused with its line; nothing is written."""
        with store.turn("s", "one") as turn:
            turn.record_usage(input_tokens=3)
            turn.write("shown")
            first_delta(store)
        lines = [json.loads(line) for line in store.export_session("s").splitlines()]
        wanted, _, fact = kind.partition(".")
        number = next(n for n, line in enumerate(lines) if line.get("kind") == wanted)
        if fact:
            lines[number]["payload"][fact] = change
        else:
            lines[number] |= change
        with pytest.raises(InvalidExport) as caught:
            store.import_session("\n".join(map(json.dumps, lines)), "t")
        assert caught.value.line == number + 1
        assert not store.session_exists("t")
