"""A history that a provider takes, from any log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from holdfast.model.message import SyntheticMessage
from holdfast.rules.providers import CONTINUED, to_anthropic
from holdfast.rules.repair import repair
from holdfast.testing.providers import Refused, check_anthropic, check_openai
from tests.rules.conversations import Message, call, conversations, result, user


@settings(max_examples=400)
@given(conversations)
def test_openai(log: list[Message]) -> None:
    """Any log, repaired, is a list that OpenAI takes."""
    check_openai(repair(list(log)))


@settings(max_examples=400)
@given(conversations)
def test_anthropic(log: list[Message]) -> None:
    """Any log, repaired, is a list that Anthropic takes in its form."""
    check_anthropic(to_anthropic(repair(list(log))).messages)


@given(conversations)
def test_idempotent(log: list[Message]) -> None:
    """Repairing what was repaired changes nothing."""
    once = repair(list(log))
    assert repair(list(once)) == once


@given(conversations)
def test_nothing_is_lost(log: list[Message]) -> None:
    """Everything but results stays, in its order; each result stands at most once."""
    repaired = repair(list(log))
    assert [m for m in repaired if m["role"] != "tool"] == [m for m in log if m["role"] != "tool"]
    real = [id(m) for m in repaired if m["role"] == "tool" and type(m) is dict]
    assert len(real) == len(set(real))
    assert set(real) <= {id(m) for m in log}


@given(conversations)
def test_results_by_position(log: list[Message]) -> None:
    """A call has the first later result with its id before the id is used again, or none."""
    repaired = repair([dict(m) for m in log])
    shown = iter([m for m in repaired if m["role"] == "tool"])
    for index, each in enumerate(log):
        for one in each.get("tool_calls", ()):
            found = next(shown)
            expected = _result_of(log[index + 1 :], one["id"])
            if expected is None:
                assert isinstance(found, SyntheticMessage)
                assert found["tool_call_id"] == one["id"]
            else:
                assert found == expected
                assert not isinstance(found, SyntheticMessage)
    assert next(shown, None) is None


def _result_of(later: list[Message], call_id: str) -> Message | None:
    for each in later:
        if each["role"] == "tool" and each["tool_call_id"] == call_id:
            return each
        if any(one["id"] == call_id for one in each.get("tool_calls", ())):
            return None
    return None


@given(conversations)
def test_what_is_sound_stays(log: list[Message]) -> None:
    """A list that OpenAI takes already stays, its results in the order of their calls."""
    try:
        check_openai(log)
    except Refused:
        return
    repaired = repair(list(log))
    assert [m for m in repaired if m["role"] != "tool"] == [m for m in log if m["role"] != "tool"]
    assert sorted(map(id, repaired)) == sorted(map(id, log))
    calling = [m for m in log if m.get("tool_calls")]
    for called, each in zip(calling, _exchanges(repaired), strict=True):
        assert [m["tool_call_id"] for m in each] == [one["id"] for one in called["tool_calls"]]


def _exchanges(messages: list[Message]) -> list[list[Message]]:
    """The results behind each message with calls."""
    found: list[list[Message]] = []
    for each in messages:
        if each.get("tool_calls"):
            found.append([])
        elif each["role"] == "tool":
            found[-1].append(each)
    return found


def test_pictures() -> None:
    """An image part becomes Anthropic's block, from data and from an address."""
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    (message,) = to_anthropic([{"role": "user", "content": parts}]).messages
    assert [block["type"] for block in message["content"]] == ["text", "image", "image"]
    assert [block["source"]["type"] for block in message["content"][1:]] == ["base64", "url"]
    check_anthropic([message])


@pytest.mark.parametrize(
    "arguments", ["{}", "", None, "not json", "[1]", "5", '{"a": 1}', {"a": 1}, "null"], ids=repr
)
def test_arguments(arguments: Any) -> None:
    """Whatever a model wrote as arguments, the input is an object, and nothing is dropped."""
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    log = [{"role": "assistant", "content": None, "tool_calls": calls}, result("c1")]
    messages = to_anthropic(log).messages
    check_anthropic(messages)
    given = messages[1]["content"][0]["input"]
    if arguments == '{"a": 1}':
        assert given == {"a": 1}
    if arguments == "not json":
        assert "not json" in given.values()


def test_blank_parts() -> None:
    """A blank text part, which Anthropic refuses, is left out; so is a message of nothing else."""
    blank = {"type": "text", "text": " "}
    log = [
        user("a"),
        {"role": "assistant", "content": [blank]},
        {"role": "user", "content": [blank, {"type": "text", "text": "b"}]},
    ]
    check_anthropic(to_anthropic(log).messages)


@pytest.mark.parametrize("function", ["look", 5, None, ["look"], {}])
def test_strange_functions(function: Any) -> None:
    """A stored call whose function is not an object never breaks the Anthropic form."""
    log = [
        {"role": "assistant", "content": "a", "tool_calls": [{"id": "c1", "function": function}]}
    ]
    messages = to_anthropic(repair(log)).messages
    assert messages[1]["content"][-1]["id"] == "c1"


def test_reused_ids_in_one_conversation() -> None:
    """Ids that a model used again are told apart in the Anthropic form, which wants them unique."""
    log = [user("a"), call("c"), result("c", "1"), user("b"), call("c"), result("c", "2")]
    blocks = [block for m in to_anthropic(repair(log)).messages for block in m["content"]]
    used = [block["id"] for block in blocks if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert used == answered
    assert len(used) == len(set(used))


@pytest.mark.parametrize(
    "ids", [("c", "c", "c-2"), ("c-2", "c", "c"), ("f:0", "f.0", "f_0"), ("ü", "é", "_")], ids=str
)
def test_ids_that_become_alike(ids: tuple[str, ...]) -> None:
    """Whatever ids calls have, in the Anthropic form they are of its characters and unique."""
    log = [user("a")]
    for id_ in ids:
        log += [call(id_), result(id_)]
    check_anthropic(to_anthropic(log).messages)


def test_ids_used_twice_in_a_message() -> None:
    """Two calls of one message with the same id have each a result in the Anthropic form."""
    check_anthropic(to_anthropic(repair([user("a"), call("c", "c"), result("c")])).messages)


def test_names() -> None:
    """A tool's name gets the form that Anthropic takes."""
    calls = [{"id": "c1", "function": {"name": "files.read/" + "x" * 200, "arguments": "{}"}}]
    log = [user("a"), {"role": "assistant", "content": None, "tool_calls": calls}, result("c1")]
    check_anthropic(to_anthropic(log).messages)


def test_the_assistant_begins() -> None:
    """A history that begins with the assistant gets a user's message in front."""
    log = [{"role": "assistant", "content": "Welcome!"}, user("a")]
    messages = to_anthropic(log).messages
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"][0]["text"] == CONTINUED
    check_anthropic(messages)


@pytest.mark.parametrize("content", ["Let me ", [{"type": "text", "text": "Let me\n"}]], ids=str)
def test_a_cut_end(content: Any) -> None:
    """An answer that was cut off behind a space ends before it; the list itself stays as it is."""
    log = [user("a"), {"role": "assistant", "content": content}]
    before = repr(log)
    messages = to_anthropic(log).messages
    assert messages[-1]["content"] == [{"type": "text", "text": "Let me"}]
    check_anthropic(messages)
    assert repr(log) == before
