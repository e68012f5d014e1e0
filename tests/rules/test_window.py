"""Limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.rules.repair import repair
from holdfast.rules.window import last_messages, reaches_back
from holdfast.testing.providers import check_openai
from tests.rules.conversations import Message, call, conversations, result, user


@given(conversations, st.integers(0, 16))
def test_limit(log: list[Message], limit: int) -> None:
    """At most that many, the end of the whole view, and a list that a provider takes by itself."""
    whole = repair(list(log))
    last = last_messages(whole, limit)
    assert len(last) <= limit
    assert last == whole[len(whole) - len(last) :]
    check_openai(last)


@given(conversations, st.integers(0, 16))
def test_as_many_as_can_be(log: list[Message], limit: int) -> None:
    """Nothing is left out but the results of an exchange that the limit would split."""
    whole = repair(list(log))
    left_out = whole[max(0, len(whole) - limit) : len(whole) - len(last_messages(whole, limit))]
    assert all(message["role"] == "tool" for message in left_out)


@given(conversations, st.integers(0, 14), st.integers(0, 14))
def test_reads_far_enough(log: list[Message], start: int, limit: int) -> None:
    """Unless it reaches back, the end of a log gives the same view as the whole log does."""
    end = log[start:]
    if limit > len(end) or reaches_back(end):
        return
    assert last_messages(repair(list(end)), limit) == last_messages(repair(list(log)), limit)


def test_exchange() -> None:
    """A limit inside an exchange gives what follows it."""
    log = [call("c1", "c2"), result("c1"), result("c2"), user("a")]
    assert [len(last_messages(log, limit)) for limit in range(5)] == [0, 1, 1, 1, 4]
