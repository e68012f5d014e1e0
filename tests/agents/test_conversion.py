"""Messages of the log as messages of Pydantic AI."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from holdfast.agents.conversion import to_model_messages
from holdfast.model.message import Message
from holdfast.rules.repair import repair

CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"at": 1}'}}


def shapes(messages: list[ModelMessage]) -> list[list[str]]:
    """Return the kinds of the parts of each message."""
    return [[part.part_kind for part in message.parts] for message in messages]


def test_a_whole_conversation() -> None:
    """Every role has its part, and a tool's result knows the tool's name."""
    messages = to_model_messages(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
            {"role": "tool", "content": "noon", "tool_call_id": "c1"},
            {"role": "assistant", "content": "It is noon."},
            {"role": "user", "content": "Thanks"},
        ]
    )
    assert shapes(messages) == [
        ["system-prompt", "user-prompt"],
        ["text", "tool-call"],
        ["tool-return"],
        ["text"],
        ["user-prompt"],
    ]
    call, result = messages[1].parts[1], messages[2].parts[0]
    assert isinstance(call, ToolCallPart)
    assert call.args_as_dict() == {"at": 1}
    assert isinstance(result, ToolReturnPart)
    assert (result.tool_name, result.content, result.tool_call_id) == ("clock", "noon", "c1")


def test_neighbours_are_joined_and_empty_answers_left_out() -> None:
    """What follows each other on one side becomes one message, as providers want it."""
    messages = to_model_messages(
        [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "Part"},
            {"role": "assistant", "content": "of it"},
        ]
    )
    assert shapes(messages) == [["user-prompt", "user-prompt"], ["text", "text"]]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "text", "text": "Look"}, str),
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, ImageUrl),
        ({"type": "image_url", "image_url": "https://example.org/a.png"}, ImageUrl),
        (
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{base64.b64encode(b'x').decode()}"},
            },
            BinaryContent,
        ),
        ({"type": "location", "lat": 1}, str),
    ],
)
def test_parts_of_what_a_user_said(part: dict[str, Any], kind: type) -> None:
    """Text and pictures are what they are; a part that has no form is handed over as JSON."""
    (message,) = to_model_messages([{"role": "user", "content": [part]}])
    (prompt,) = message.parts
    assert isinstance(prompt, UserPromptPart)
    assert isinstance(prompt.content, list)
    assert isinstance(prompt.content[0], kind)


TEXTS = st.text(max_size=5)
CALLS = st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2).map(
    lambda ids: [{**CALL, "id": id_} for id_ in ids]
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(lambda t: {"role": "user", "content": t}, TEXTS),
    st.builds(lambda t: {"role": "system", "content": t}, TEXTS),
    st.builds(
        lambda t, c: {"role": "assistant", "content": t} | ({"tool_calls": c} if c else {}),
        TEXTS,
        CALLS,
    ),
    st.builds(
        lambda t, i: {"role": "tool", "content": t, "tool_call_id": i},
        TEXTS,
        st.sampled_from(["a", "b"]),
    ),
)


@given(st.lists(MESSAGES, max_size=12))
def test_any_history_becomes_a_conversation(history: list[Message]) -> None:
    """Whatever history is read, sides alternate, nothing is lost, and it can be stored as JSON."""
    read = repair(history)
    messages = to_model_messages(read)
    sides = [type(message) for message in messages]
    assert all(one is not other for one, other in itertools.pairwise(sides))
    assert {*sides} <= {ModelRequest, ModelResponse}
    texts = [
        part.content
        for message in messages
        for part in message.parts
        if isinstance(part, TextPart | UserPromptPart | SystemPromptPart | ToolReturnPart)
    ]
    wanted = [m["content"] for m in read if m["content"] or m["role"] != "assistant"]
    assert texts == wanted
    assert len(ModelMessagesTypeAdapter.dump_json(messages)) > 0
