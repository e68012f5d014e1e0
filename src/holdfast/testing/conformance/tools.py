"""Tool calls and their results, as a history shows them."""

from __future__ import annotations

import random

import pytest

from holdfast.model.message import Message, SyntheticMessage
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.suite import Conformance, texts, user


def call(*ids: str) -> Message:
    """Return an assistant's message with calls of these ids."""
    function = {"name": "now", "arguments": "{}"}
    calls = [{"id": i, "type": "function", "function": function} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str, text: str) -> Message:
    """Return a tool's message."""
    return {"role": "tool", "tool_call_id": call_id, "content": text}


class Tools(Conformance):
    """History is always acceptable to a provider; the log keeps what happened."""

    def test_open_call(self, store: SessionStore) -> None:
        """A call without a result gets one that says so, in the view only."""
        store.add_messages("s", [call("c1"), user("a")])
        history = store.get_chat_history("s")
        assert [m["role"] for m in history] == ["assistant", "tool", "user"]
        assert isinstance(history[1], SyntheticMessage)
        assert history[1]["tool_call_id"] == "c1"
        assert len(store.get_messages("s")) == 2
        assert store.get_chat_history("s", repair=False) == [call("c1"), user("a")]

    def test_stray_result(self, store: SessionStore) -> None:
        """A result without a call is left out, in the view only."""
        store.add_messages("s", [result("c1", "?"), user("a"), call("c1")])
        assert [m["role"] for m in store.get_chat_history("s")] == ["user", "assistant", "tool"]
        assert isinstance(store.get_chat_history("s")[2], SyntheticMessage)
        assert len(store.get_messages("s")) == 3

    def test_late_result(self, store: SessionStore) -> None:
        """A result that came later stands behind its call; what was between follows."""
        store.add_messages("s", [call("c1", "c2"), user("a"), result("c2", "2"), result("c1", "1")])
        assert texts(store.get_chat_history("s")) == [None, "1", "2", "a"]

    def test_reused_ids(self, store: SessionStore) -> None:
        """Ids that are used again pair by position: each call has the result that followed it."""
        store.add_messages(
            "s", [call("c"), result("c", "1"), call("c"), result("c", "2"), result("c", "3")]
        )
        assert texts(store.get_chat_history("s")) == [None, "1", None, "2"]

    def test_reused_ids_open(self, store: SessionStore) -> None:
        """A call whose id is used again before its result stays open."""
        store.add_messages("s", [call("c"), user("a"), call("c"), result("c", "2")])
        first, invented, between, second, real = store.get_chat_history("s")
        assert (first, between, second, real) == (call("c"), user("a"), call("c"), result("c", "2"))
        assert isinstance(invented, SyntheticMessage)

    def test_providers(self, store: SessionStore) -> None:
        """A history gives the messages in the form of each provider."""
        store.add_message("s", "system", "Be brief.")
        store.add_messages("s", [user("What time is it?"), call("c1"), result("c1", "12:00")])
        store.add_assistant_message("s", "Noon.")
        history = store.get_chat_history("s")
        assert history.for_openai() == list(history)
        anthropic = history.for_anthropic()
        assert anthropic.system == "Be brief."
        assert [m["role"] for m in anthropic.messages] == ["user", "assistant", "user", "assistant"]
        assert anthropic.messages[1]["content"] == [
            {"type": "tool_use", "id": "c1", "name": "now", "input": {}}
        ]
        assert anthropic.messages[2]["content"] == [
            {"type": "tool_result", "tool_use_id": "c1", "content": "12:00"}
        ]

    @pytest.mark.parametrize("seed", range(6))
    def test_limits(self, store: SessionStore, seed: int) -> None:
        """Of any log a limit shows the end of the whole view, and never a part of an exchange."""
        chance = random.Random(seed)
        for number in range(4):
            name = f"s{number}"
            for _ in range(6):
                store.add_messages(name, [any_message(chance) for _ in range(chance.randint(1, 4))])
            whole, stored = store.get_chat_history(name), store.get_messages(name)
            for limit in range(len(whole) + 2):
                last = store.get_chat_history(name, limit)
                assert len(last) <= limit
                assert last == whole[len(whole) - len(last) :]
                assert not last or last[0]["role"] != "tool"
                left_out = whole[max(0, len(whole) - limit) : len(whole) - len(last)]
                assert all(message["role"] == "tool" for message in left_out)
                some = store.get_messages(name, limit)
                assert len(some) <= limit
                assert some == stored[len(stored) - len(some) :]


def any_message(chance: random.Random) -> Message:
    """Return a call, a result or a user's message, with ids that come again and again."""
    ids = chance.sample(["c1", "c2", "c3"], chance.randint(1, 2))
    return chance.choice([call(*ids), result(ids[0], "found"), user("a"), result(ids[-1], "more")])
