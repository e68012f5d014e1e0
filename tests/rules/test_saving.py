"""Append or rewrite, and which stored message a dict stands for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidMessage
from holdfast.rules import codec
from holdfast.rules.repair import repair
from holdfast.rules.saving import plan_saving
from tests.rules.conversations import Message, conversations, message, user


def stamp() -> codec.Stamp:
    """Ids that count."""
    count = itertools.count(1)
    return lambda: f"new_{next(count)}", "2026-01-01T00:00:00.000Z"


def payloads(log: list[Message]) -> tuple[bytes, ...]:
    """The log as it is stored, two messages to an entry."""
    lines = [
        codec.encode_message({**each, "id": f"old_{number}"}, "message", stamp())
        for number, each in enumerate(log)
    ]
    return tuple(b"\n".join(lines[start : start + 2]) for start in range(0, len(lines), 2))


def ids(lines: list[bytes]) -> list[str]:
    """The ids of stored lines."""
    return [each["id"] for each in codec.decode_whole(lines)] if lines else []


@given(conversations, st.lists(message, max_size=3))
def test_append(log: list[Message], tail: list[Message]) -> None:
    """Whatever view of the base a caller was given, that view and a tail is an append."""
    base = payloads(log)
    plain = codec.decode_provider(base) if base else []
    repaired = repair(list(plain))
    whole = codec.decode_whole(base) if base else []
    real = [each for each in repaired if type(each) is dict]
    for view, closed in ((plain, False), (repaired, True), (whole, None), (real, True)):
        given = [*view, *tail]
        saving = plan_saving(given, base, may_append=True, stamp=stamp(), repaired=closed)
        assert saving.appends
        stored = codec.decode_whole(saving.lines) if saving.lines else []
        assert [each["content"] for each in stored][-len(tail) or len(stored) :] == [
            each["content"] for each in tail
        ]


@given(conversations.filter(bool), st.data())
def test_rewrite(log: list[Message], data: st.DataObject) -> None:
    """A list that lacks a message of the base is a rewrite, and the others keep their ids."""
    base = payloads(log)
    plain = codec.decode_provider(base)
    index = data.draw(st.integers(0, len(plain) - 1))
    given_ = plain[:index] + plain[index + 1 :]
    saving = plan_saving(given_, base, may_append=True, stamp=stamp())
    if saving.appends:  # what is left is another view of the base: the message was a stray result
        assert plain[index]["role"] == "tool"
        return
    kept = ids(saving.lines)
    assert len(kept) == len(set(kept)) == len(given_)
    assert all(name.startswith("old_") for name in kept)


@given(conversations, st.permutations(range(14)))
def test_order_is_kept(log: list[Message], order: list[int]) -> None:
    """A rewrite stores the list in its order, each stored message at most once."""
    base = payloads(log)
    plain = codec.decode_provider(base) if base else []
    given_ = [plain[index] for index in order if index < len(plain)]
    saving = plan_saving(given_, base, may_append=False, stamp=stamp())
    assert not saving.appends
    back = codec.decode_provider(saving.lines) if saving.lines else []
    assert back == given_
    assert sorted(ids(saving.lines)) == sorted(f"old_{n}" for n in range(len(log)))


def test_equal_messages() -> None:
    """Equal dicts stand for the stored ones in their order; one too many is new."""
    base = payloads([user("a"), user("a")])
    saving = plan_saving([user("a")] * 3, base, may_append=False, stamp=stamp())
    assert ids(saving.lines)[:2] == ["old_0", "old_1"]
    assert ids(saving.lines)[2].startswith("new_")


def test_without_a_base() -> None:
    """Without a base even the whole history and a tail is no append."""
    base = payloads([user("a")])
    assert not plan_saving([user("a"), user("b")], base, may_append=False, stamp=stamp()).appends


def test_an_empty_base() -> None:
    """Any list is an append to an empty history."""
    assert plan_saving([user("a")], (), may_append=True, stamp=stamp()).appends


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0, -0.0), (False, 0)], ids=repr)
def test_types(old: Any, new: Any) -> None:
    """Contents that are equal in Python and not in JSON are different messages."""
    base = payloads([{"role": "user", "content": [{"n": old}]}])
    changed = [{"role": "user", "content": [{"n": new}]}]
    saving = plan_saving(changed, base, may_append=True, stamp=stamp())
    assert not saving.appends
    assert ids(saving.lines) != ["old_0"]


def test_paths_count_the_whole_list() -> None:
    """The path of a bad message in a tail is its place in the list that was given."""
    base = payloads([user("a"), user("b")])
    with pytest.raises(InvalidMessage) as caught:
        plan_saving([user("a"), user("b"), {"role": "user"}], base, may_append=True, stamp=stamp())
    assert caught.value.path == "messages[2].content"


@given(conversations)
def test_invented_results(log: list[Message]) -> None:
    """Results that reading invented are stored by no rewrite."""
    base = payloads(log)
    repaired = repair(codec.decode_provider(base)) if base else []
    saving = plan_saving([user("first"), *repaired], base, may_append=False, stamp=stamp())
    real = [each["content"] for each in repaired if type(each) is dict]
    stored = codec.decode_whole(saving.lines)
    assert [each["content"] for each in stored] == ["first", *real]
