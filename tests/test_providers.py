"""The providers' rules refuse what the providers refuse, and nothing that they take."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.testing.providers import Refused, check_anthropic, check_openai
from tests.rules.conversations import Message, call, result, user

Block = dict[str, Any]


def text(said: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": said}


def use(id_: str, **other: Any) -> Block:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": id_, "name": "look", "input": {}, **other}


def found(id_: str, content: Any = "1") -> Block:
    """A block with the result of a call."""
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def turns(*contents: list[Block] | Block) -> list[Message]:
    """Messages of the user and the assistant by turns."""
    return [
        {
            "role": ("user", "assistant")[index % 2],
            "content": content if isinstance(content, list) else [content],
        }
        for index, content in enumerate(contents)
    ]


def said(role: str, content: Any = "a", **other: Any) -> Message:
    """A message of some role."""
    return {"role": role, "content": content, **other}


GOOD_OPENAI: list[list[Message]] = [
    [],
    [user("")],
    [said("system"), said("developer"), user("a"), said("assistant", "")],
    [call("c1"), result("c1")],
    [call("c1", "c2"), result("c2"), result("c1"), user("a"), call("c1"), result("c1")],
    [said("user", [text("a")], name="ada")],
]

BAD_OPENAI: list[list[Message]] = [
    [call("c1")],
    [result("c1")],
    [user("a"), result("c1")],
    [call("c1"), user("a"), result("c1")],
    [call("c1", "c2"), result("c1"), user("a")],
    [call("c1", "c2"), result("c1"), result("c1")],
    [call("c1"), result("c1"), result("c1")],
    [call("c1"), result("c2")],
    [call("c1"), call("c2"), result("c2"), result("c1")],
    [call("c1", "c1"), result("c1"), result("c1")],
    [said("user", None)],
    [said("user", [])],
    [said("user", ["a"])],
    [said("user", 5)],
    [said("assistant", None)],
    [said("assistant", "a", tool_calls=[])],
    [said("user", "a", tool_calls=call("c1")["tool_calls"]), result("c1")],
    [said("user", "a", tool_call_id="c1")],
    [said("user", "a", metadata={})],
    [said("bot")],
    [said("assistant", None, tool_calls=[{"id": "c1", "type": "function"}]), result("c1")],
    [
        said("assistant", None, tool_calls=[{"id": "c1", "function": {"name": "f"}}]),
        result("c1"),
    ],
    [call("c1"), said("tool", None, tool_call_id="c1")],
]

GOOD_ANTHROPIC: list[list[Message]] = [
    [],
    turns(text("a")),
    turns(text("a"), text("b")),
    turns(text("a"), [text("b "), use("c1")], [found("c1"), text("c")], text("d")),
    turns(text("a"), [use("c1"), use("c2")], [found("c2", ""), found("c1", [text("x")])]),
    turns({"type": "image", "source": {}}),
]

BAD_ANTHROPIC: list[list[Message]] = [
    [*turns(text("a"), text("b"))[1:]],
    [*turns(text("a")), *turns(text("b"))],
    [said("system", [text("a")])],
    turns([]),
    [said("user", "a"), said("assistant", None)],
    turns(text("")),
    turns(text(" \n")),
    turns(text("a"), use("c1")),
    turns(text("a"), use("c1"), text("b")),
    turns(text("a"), use("c1"), [text("b"), found("c1")]),
    turns(text("a"), use("c1"), found("c2")),
    turns(text("a"), use("c1"), [found("c1"), found("c1")]),
    turns(text("a"), [use("c1"), use("c2")], found("c1")),
    turns(text("a"), text("b"), found("c1")),
    turns(found("c1")),
    turns(text("a"), [use("c1"), use("c1")], [found("c1"), found("c1")]),
    turns(text("a"), use("c1"), found("c1"), use("c1"), found("c1")),
    turns(use("c1"), found("c1")),
    turns(text("a"), use("c:1"), found("c:1")),
    turns(text("a"), use("c1", name="a.b"), found("c1")),
    turns(text("a"), use("c1", name="x" * 129), found("c1")),
    turns(text("a"), use("c1", input="{}"), found("c1")),
    turns(text("a"), use("c1"), found("c1", [text(" ")])),
    turns({"type": "image_url", "image_url": {}}),
    turns(text("a"), text("b ")),
    [said("user", [text("a")], name="ada")],
]


@pytest.mark.parametrize("messages", GOOD_OPENAI, ids=str)
def test_openai_takes(messages: list[Message]) -> None:
    """OpenAI's rules take what they should."""
    check_openai(messages)


@pytest.mark.parametrize("messages", BAD_OPENAI, ids=str)
def test_openai_refuses(messages: list[Message]) -> None:
    """OpenAI's rules refuse each list that breaks one of them."""
    with pytest.raises(Refused):
        check_openai(messages)


@pytest.mark.parametrize("messages", GOOD_ANTHROPIC, ids=str)
def test_anthropic_takes(messages: list[Message]) -> None:
    """Anthropic's rules take what they should."""
    check_anthropic(messages)


@pytest.mark.parametrize("messages", BAD_ANTHROPIC, ids=str)
def test_anthropic_refuses(messages: list[Message]) -> None:
    """Anthropic's rules refuse each list that breaks one of them."""
    with pytest.raises(Refused):
        check_anthropic(messages)
