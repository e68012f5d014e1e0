"""Adding messages and getting them back."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import InvalidMessage
from holdfast.model.entry import MessageEntry
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users

CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}

VALUES: tuple[Any, ...] = (
    True,
    1,
    1.0,
    -0.0,
    1e300,
    2**63 - 1,
    -(2**63),
    2**64,
    -(10**40),
    None,
    "",
    "line\nbreak \u2028 \x00 \x1b[31m \U0001f600",
    [],
    {},
    {"": {"a": [1, [2.5, None]]}},
)


class Messages(Conformance):
    """What is added comes back, exactly and in order."""

    def test_order(self, store: SessionStore) -> None:
        """Messages come back in the order in which they were added."""
        store.add_user_message("s", "a")
        store.add_assistant_message("s", "b")
        store.add_messages("s", users("c d"))
        store.add_message("s", "system", "e")
        history = store.get_chat_history("s")
        assert texts(history) == ["a", "b", "c", "d", "e"]
        assert [m["role"] for m in history] == ["user", "assistant", "user", "user", "system"]

    def test_identity(self, subject: Subject, store: SessionStore) -> None:
        """A message without id and time gets both, from the store's sources."""
        subject.script.advance(500)
        store.add_user_message("s", "a")
        (stored,) = store.get_messages("s")
        assert stored["id"].startswith("msg_")
        assert stored["created_at"] == "2023-11-14T22:13:20.500Z"

    def test_own_identity(self, store: SessionStore) -> None:
        """A message's own id and time are kept."""
        message = {**user("a"), "id": "mine", "created_at": "yesterday"}
        store.add_messages("s", [message])
        assert store.get_messages("s") == [message]

    def test_every_key(self, store: SessionStore) -> None:
        """`get_messages` gives every key, the history only what providers take."""
        message = {
            "role": "assistant",
            "content": None,
            "name": "bot",
            "tool_calls": [CALL],
            "metadata": {"cost": 0.5},
            "anything": ["else"],
            "id": "m1",
            "created_at": "t",
        }
        store.add_messages("s", [message])
        assert store.get_messages("s") == [message]
        (first, *_) = store.get_chat_history("s")
        assert first == {
            "role": "assistant",
            "content": None,
            "name": "bot",
            "tool_calls": [CALL],
        }

    def test_add_message_keywords(self, store: SessionStore) -> None:
        """`add_message` stores what its keywords say."""
        store.add_message("s", "assistant", None, tool_calls=[CALL], metadata={"a": 1})
        store.add_message("s", "tool", "12:00", tool_call_id="c1")
        call, result = store.get_messages("s")
        assert (call["tool_calls"], call["metadata"]) == ([CALL], {"a": 1})
        assert result["tool_call_id"] == "c1"
        assert "metadata" not in result

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_values(self, store: SessionStore, value: Any) -> None:
        """Any JSON value comes back with its type: true, 1 and 1.0 are three values."""
        store.add_messages("s", [{**user("a"), "extra": value}])
        (stored,) = store.get_messages("s")
        assert (repr(stored["extra"]), type(stored["extra"])) == (repr(value), type(value))

    def test_together(self, store: SessionStore) -> None:
        """Messages added together stand in one entry, next to each other."""
        store.add_messages("s", users("a b"))
        (entry,) = store.read_entries("s")
        assert isinstance(entry, MessageEntry)
        assert texts(list(entry.messages)) == ["a", "b"]

    def test_all_or_none(self, store: SessionStore) -> None:
        """One bad message refuses all of them, and names itself."""
        with pytest.raises(InvalidMessage) as caught:
            store.add_messages("s", [user("a"), {"role": "user", "content": 5}])
        assert caught.value.path == "messages[1].content"
        assert not store.session_exists("s")

    def test_commit(self, store: SessionStore) -> None:
        """A commit says where the log stands now."""
        first = store.add_user_message("s", "a")
        second = store.add_user_message("s", "b")
        assert 0 < first.revision < second.revision
        assert second.revision == second.history_revision
        assert (second.kept, second.removed, second.replayed) == (0, 0, False)
        assert store.get_chat_history("s").revision == second.history_revision

    def test_caller_keeps_its_own(self, store: SessionStore) -> None:
        """Storing changes neither the caller's dicts nor what it stored when they change later."""
        message = user("a")
        store.add_messages("s", [message])
        assert message == user("a")
        message["content"] = "b"
        store.get_chat_history("s").append(user("c"))
        assert texts(store.get_chat_history("s")) == ["a"]

    def test_nothing(self, store: SessionStore) -> None:
        """Adding no messages creates the session and nothing else."""
        store.add_messages("s", [])
        assert store.session_exists("s")
        assert store.get_chat_history("s") == []

    def test_many(self, store: SessionStore) -> None:
        """A long history comes back whole, also after a rewrite in many entries."""
        words = " ".join(str(n) for n in range(300))
        store.add_messages("s", users(words))
        history = store.get_chat_history("s")
        history.insert(0, user("first"))
        store.set_chat_history("s", history)
        assert texts(store.get_chat_history("s")) == ["first", *words.split()]
        assert store.verify()
