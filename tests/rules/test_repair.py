"""A history that a provider takes, from any log; the providers' rules are written out here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings

from holdfast.model.message import SyntheticMessage
from holdfast.rules.providers import to_anthropic
from holdfast.rules.repair import repair
from tests.rules.conversations import Message, call, conversations, result, user


class Refused(Exception):
    """What a provider's API answers to a list that it does not take."""


def openai_takes(messages: list[Message]) -> None:
    """Check the rule of OpenAI's chat completions: calls are followed by exactly their results."""
    waiting: list[str] = []
    for each in messages:
        if each["role"] == "tool":
            if each["tool_call_id"] not in waiting:
                raise Refused("a tool message must follow the call that it answers")
            waiting.remove(each["tool_call_id"])
            continue
        if waiting:
            raise Refused("an assistant message with tool_calls must be followed by the results")
        if each["content"] is None and not each.get("tool_calls"):
            raise Refused("content is missing")
        if set(each) - {"role", "content", "name", "tool_calls", "tool_call_id"}:
            raise Refused("unknown key")
        waiting = [one["id"] for one in each.get("tool_calls", ())]
    if waiting:
        raise Refused("the last calls have no results")


def anthropic_takes(messages: list[Message]) -> None:
    """Check the rules of Anthropic's messages API, as strictly as it does."""
    open_calls: set[str] = set()
    previous = None
    for each in messages:
        role, blocks = each["role"], each["content"]
        if role not in ("user", "assistant") or role == previous:
            raise Refused("roles must alternate")
        if not blocks:
            raise Refused("content must not be empty")
        answered = _leading_results(blocks)
        if open_calls != set(answered) or len(answered) != len(open_calls):
            raise Refused("tool_use blocks must be followed by exactly their tool_result blocks")
        used = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(used) != len(set(used)):
            raise Refused("tool_use ids must be unique")
        if used and role != "assistant":
            raise Refused("only the assistant calls tools")
        for block in blocks[len(answered) :]:
            _check_block(block)
        open_calls, previous = set(used), role
    if open_calls:
        raise Refused("the last calls have no results")


def _leading_results(blocks: list[dict[str, Any]]) -> list[str]:
    found = []
    for block in blocks:
        if block["type"] != "tool_result":
            break
        found.append(block["tool_use_id"])
    return found


def _check_block(block: dict[str, Any]) -> None:
    if block["type"] == "text":
        if not block["text"].strip():
            raise Refused("text must not be blank")
    elif block["type"] == "tool_use":
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"]):
            raise Refused("a tool's name has a form")
        if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
            raise Refused("a call's id has a form")
        if not isinstance(block["input"], dict):
            raise Refused("input must be an object")
    elif block["type"] == "tool_result":
        raise Refused("results come first")
    elif block["type"] != "image":
        raise Refused("unknown block")


@pytest.mark.parametrize(
    "broken",
    [
        [call("c1")],
        [result("c1")],
        [call("c1"), user("a"), result("c1")],
        [call("c1", "c2"), result("c1"), user("a")],
        [call("c1"), result("c1"), result("c1")],
        [{"role": "user", "content": None}],
    ],
    ids=str,
)
def test_the_validator_refuses(broken: list[Message]) -> None:
    """The validator of OpenAI's rules refuses what the API does."""
    with pytest.raises(Refused):
        openai_takes(broken)


@pytest.mark.parametrize(
    "broken",
    [
        [call("c1")],
        [result("c1")],
        [call("c1"), user("a"), result("c1")],
        [user("a"), call("c1", "c2"), result("c1")],
        [call("c1", "c1"), result("c1")],
    ],
    ids=str,
)
def test_the_strict_validator_refuses(broken: list[Message]) -> None:
    """The validator of Anthropic's rules refuses unrepaired histories in their Anthropic form."""
    with pytest.raises(Refused):
        anthropic_takes(to_anthropic(broken).messages)


@settings(max_examples=400)
@given(conversations)
def test_openai(log: list[Message]) -> None:
    """Any log, repaired, is a list that OpenAI takes."""
    openai_takes(repair(list(log)))


@settings(max_examples=400)
@given(conversations)
def test_anthropic(log: list[Message]) -> None:
    """Any log, repaired, is a list that Anthropic takes in its form."""
    anthropic_takes(to_anthropic(repair(list(log))).messages)


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
        openai_takes(log)
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
    anthropic_takes([message])


@pytest.mark.parametrize(
    "arguments", ["{}", "", None, "not json", "[1]", "5", '{"a": 1}', {"a": 1}, "null"], ids=repr
)
def test_arguments(arguments: Any) -> None:
    """Whatever a model wrote as arguments, the input is an object, and nothing is dropped."""
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    log = [{"role": "assistant", "content": None, "tool_calls": calls}, result("c1")]
    messages = to_anthropic(log).messages
    anthropic_takes(messages)
    given = messages[0]["content"][0]["input"]
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
    anthropic_takes(to_anthropic(log).messages)


@pytest.mark.parametrize("function", ["look", 5, None, ["look"], {}])
def test_strange_functions(function: Any) -> None:
    """A stored call whose function is not an object never breaks the Anthropic form."""
    log = [
        {"role": "assistant", "content": "a", "tool_calls": [{"id": "c1", "function": function}]}
    ]
    messages = to_anthropic(repair(log)).messages
    assert messages[0]["content"][-1]["id"] == "c1"


def test_reused_ids_in_one_conversation() -> None:
    """Ids that a model used again are told apart in the Anthropic form, which wants them unique."""
    log = [user("a"), call("c"), result("c", "1"), user("b"), call("c"), result("c", "2")]
    blocks = [block for m in to_anthropic(repair(log)).messages for block in m["content"]]
    used = [block["id"] for block in blocks if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert used == answered
    assert len(used) == len(set(used))
