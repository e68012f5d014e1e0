"""Bad input is refused with the name of what is wrong, and writes nothing."""

from __future__ import annotations

import enum
from collections import UserDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from holdfast.errors import HoldfastError, InvalidArgument, InvalidMessage
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.suite import Conformance, texts, user, users

BAD_IDS: tuple[Any, ...] = ("", "a\0b", "\ud800", "x" * 513, "\u00e9" * 257, None, 5, b"s", ["s"])
GOOD_IDS = ("x" * 512, "\u00e9" * 256, " ", "\n", "\x1b[31m", "None", "0", "\ufffd", "a\u202eb")

NESTED: Any = "deep"
for _ in range(80):
    NESTED = [NESTED]

CYCLE: dict[str, Any] = {"role": "user", "content": "a"}
CYCLE["self"] = [CYCLE]

BAD_MESSAGES: dict[str, tuple[Any, str]] = {
    "not a mapping": ("hello", ""),
    "a list": (["user", "a"], ""),
    "nothing": (None, ""),
    "no role": ({"content": "a"}, ".role"),
    "unknown role": ({"role": "robot", "content": "a"}, ".role"),
    "role of another kind": ({"role": 5, "content": "a"}, ".role"),
    "role that is a list": ({"role": ["user"], "content": "a"}, ".role"),
    "role that is a dict": ({"role": {}, "content": "a"}, ".role"),
    "no content": ({"role": "user"}, ".content"),
    "content null": ({"role": "assistant", "content": None}, ".content"),
    "content null beside no calls": (
        {"role": "assistant", "content": None, "tool_calls": []},
        ".content",
    ),
    "content without parts": ({"role": "user", "content": []}, ".content"),
    "a result without parts": ({"role": "tool", "content": [], "tool_call_id": "c"}, ".content"),
    "no parts beside no calls": (
        {"role": "assistant", "content": [], "tool_calls": []},
        ".content",
    ),
    "content a number": ({"role": "user", "content": 5}, ".content"),
    "content a dict": ({"role": "user", "content": {"type": "text"}}, ".content"),
    "a part that is text": ({"role": "user", "content": ["a"]}, ".content[0]"),
    "NaN": ({**user("a"), "x": {"y": [1, float("nan")]}}, ".x.y[1]"),
    "infinity": ({**user("a"), "x": float("inf")}, ".x"),
    "a set": ({**user("a"), "x": [{1, 2}]}, ".x[0]"),
    "bytes": ({**user("a"), "x": b"a"}, ".x"),
    "an object": ({**user("a"), "x": {"y": object()}}, ".x.y"),
    "a key that is a number": ({**user("a"), "x": {1: "a"}}, ".x"),
    "a lone surrogate": ({**user("a"), "x": ["fine", "\ud800"]}, ".x[1]"),
    "a lone surrogate in content": ({"role": "user", "content": "a\udfff"}, ".content"),
    "too deep": ({**user("a"), "x": NESTED}, ".x"),
    "a cycle": (CYCLE, ".self"),
    "calls that are no list": (
        {"role": "assistant", "content": "a", "tool_calls": {"id": "c"}},
        ".tool_calls",
    ),
    "a call without id": (
        {"role": "assistant", "content": "a", "tool_calls": [{"type": "function"}]},
        ".tool_calls[0]",
    ),
    "a result without a call": ({"role": "tool", "content": "a"}, ".tool_call_id"),
    "a result of a number": ({"role": "tool", "content": "a", "tool_call_id": 5}, ".tool_call_id"),
    "too large": (user("x" * (16 * 1024 * 1024 + 1)), ""),
}


class Colour(enum.StrEnum):
    """Text that is an enum's member."""

    RED = "red"


USES: dict[str, Callable[[SessionStore, Any], object]] = {
    "add_message": lambda store, name: store.add_message(name, "user", "a"),
    "add_messages": lambda store, name: store.add_messages(name, users("a")),
    "get_chat_history": lambda store, name: store.get_chat_history(name),
    "get_messages": lambda store, name: store.get_messages(name),
    "read_entries": lambda store, name: store.read_entries(name),
    "set_chat_history": lambda store, name: store.set_chat_history(name, users("a")),
    "edit_history": lambda store, name: store.edit_history(name, lambda history: history),
    "clear_session": lambda store, name: store.clear_session(name),
    "delete_session": lambda store, name: store.delete_session(name),
    "get_session": lambda store, name: store.get_session(name),
    "session_exists": lambda store, name: store.session_exists(name),
    "rename_session": lambda store, name: store.rename_session(name, "a"),
    "update_session_metadata": lambda store, name: store.update_session_metadata(name, a=1),
    "key": lambda store, name: store.add_message("s", "user", "a", key=name or ""),
    "user_id": lambda store, name: store.create_session("s", user_id=name or ""),
    "filter": lambda store, name: store.list_sessions(user_id=name or ""),
}


class BadInput(Conformance):
    """A typed error with a hint, never a half write, never an error of Python's own."""

    @pytest.mark.parametrize("use", USES)
    def test_bad_ids(self, store: SessionStore, use: str) -> None:
        """A name that is no text of 1 to 512 bytes of UTF-8 is refused by every method."""
        for name in BAD_IDS:
            with pytest.raises(InvalidArgument):
                USES[use](store, name)
        assert store.list_sessions() == []

    def test_good_ids(self, store: SessionStore) -> None:
        """Any other text is used exactly."""
        for name in GOOD_IDS:
            store.add_messages(name, [user(name)], key=name)
        for name in GOOD_IDS:
            assert texts(store.get_chat_history(name)) == [name]

    @pytest.mark.parametrize("bad", BAD_MESSAGES)
    def test_bad_messages(self, store: SessionStore, bad: str) -> None:
        """A message that cannot be stored is refused, naming the path of the value at fault."""
        message, path = BAD_MESSAGES[bad]
        store.add_user_message("s", "before")
        before = store.read_entries("s")
        for write in (store.add_messages, store.set_chat_history):
            with pytest.raises(InvalidMessage) as caught:
                write("s", [user("fine"), message])
            assert caught.value.path.startswith("messages[1]" + path)
        assert store.read_entries("s") == before

    @pytest.mark.parametrize("bad", [None, 5, "text", b"a", {"role": "user", "content": "a"}])
    def test_no_list(self, store: SessionStore, bad: Any) -> None:
        """What is no list of messages is refused, one message's dict above all."""
        for write in (store.add_messages, store.set_chat_history):
            with pytest.raises(InvalidMessage):
                write("s", bad)
        assert not store.session_exists("s")

    @pytest.mark.parametrize("number", [-1, True, 1.0, "1", float("nan")], ids=repr)
    def test_bad_numbers(self, store: SessionStore, number: Any) -> None:
        """A limit or revision that is no whole number of 0 or more is refused."""
        store.add_user_message("s", "a")
        for call in (
            lambda: store.get_chat_history("s", number),
            lambda: store.get_messages("s", number),
            lambda: store.read_entries("s", number),
            lambda: store.read_entries("s", 0, number),
            lambda: store.list_sessions(number),
            lambda: store.add_messages("s", users("b"), expected_revision=number),
            lambda: store.set_chat_history("s", users("b"), base_revision=number),
        ):
            with pytest.raises(InvalidArgument):
                call()
        assert texts(store.get_chat_history("s")) == ["a"]

    @pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, 10**30], ids=str)
    def test_huge_numbers(self, store: SessionStore, number: int) -> None:
        """A number that no store can hold is an error of ours, or the same as a large one."""
        store.add_user_message("s", "a")
        assert texts(store.get_chat_history("s", number)) == ["a"]
        assert len(store.read_entries("s", 0, number)) == 1
        assert len(store.list_sessions(number)) == 1
        for call in (
            lambda: store.get_chat_history("s", at=number),
            lambda: store.read_entries("s", number),
            lambda: store.add_messages("s", users("b"), expected_revision=number),
            lambda: store.set_chat_history("s", users("b"), base_revision=number),
        ):
            with pytest.raises(HoldfastError):
                call()
        assert texts(store.get_chat_history("s")) == ["a"]

    def test_huge_cursor(self, store: SessionStore) -> None:
        """A cursor of numbers that no page can have given is refused."""
        store.create_session("s")
        with pytest.raises(InvalidArgument):
            store.list_sessions(cursor=f"{10**30}-{10**30}")

    @pytest.mark.parametrize("bad", [["a"], "ab", 5, [("a", 1)], [], "", 0], ids=repr)
    def test_bad_metadata(self, store: SessionStore, bad: Any) -> None:
        """A session's metadata is a mapping, or refused before anything is written."""
        with pytest.raises(InvalidArgument):
            store.create_session("s", metadata=bad)
        assert not store.session_exists("s")

    @pytest.mark.parametrize("bad", [float("nan"), {1}, b"a", "\ud800", {1: 2}, NESTED], ids=str)
    def test_bad_metadata_values(self, store: SessionStore, bad: Any) -> None:
        """Metadata that is not JSON is refused, naming the key, and nothing is changed."""
        store.create_session("s", metadata={"a": 1})
        calls: list[Callable[[], object]] = [
            lambda: store.update_session_metadata("s", b=2, wrong=bad),
            lambda: store.create_session("t", metadata={"wrong": bad}),
        ]
        for call in calls:
            with pytest.raises(InvalidMessage) as caught:
                call()
            assert "wrong" in caught.value.path
        assert store.get_session("s").metadata == {"a": 1}
        assert not store.session_exists("t")

    @pytest.mark.parametrize("title", [5, b"a", ["a"], "\ud800", "a\0b"], ids=repr)
    def test_bad_title(self, store: SessionStore, title: Any) -> None:
        """A title is text without a NUL character."""
        store.create_session("s", title="fine")
        with pytest.raises(InvalidArgument):
            store.rename_session("s", title)
        with pytest.raises(InvalidArgument):
            store.create_session("t", title=title)
        assert store.get_session("s").title == "fine"

    def test_mappings(self, store: SessionStore) -> None:
        """Any mapping may be a message, in an add, an append and a rewrite."""
        forms: list[Any] = [
            MappingProxyType({"role": "user", "content": "a", "metadata": MappingProxyType({})}),
            UserDict({"role": "user", "content": [{"type": "text", "text": "b"}]}),
            {"role": "user", "content": ({"type": "text", "text": "c"},)},
            {"role": "user", "content": Colour.RED},
        ]
        store.add_messages("s", forms)
        history = store.get_chat_history("s")
        base = history.revision
        plain = list(history)
        store.set_chat_history("s", [*forms, user("d")], base_revision=base)
        store.set_chat_history("s", list(forms))
        assert store.get_chat_history("s") == plain
        assert [type(m["content"]) for m in store.get_messages("s")] == [str, list, list, str]

    def test_errors_have_hints(self, store: SessionStore) -> None:
        """Every refusal says what to do."""
        for call in (
            lambda: store.add_message("s", "robot", "a"),
            lambda: store.add_message("", "user", "a"),
            lambda: store.get_session("unknown"),
            lambda: store.add_messages("s", users("a"), expected_revision=5),
        ):
            with pytest.raises(HoldfastError) as caught:
                call()
            assert caught.value.hint
            assert caught.value.code
