"""Conversations for property tests: any mix of calls, results and plain messages."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Message = dict[str, Any]

CALL_IDS = ("c1", "c2", "c3")


def user(text: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": text}


def call(*ids: str, content: str | None = None) -> Message:
    """An assistant's message with calls of these ids."""
    function = {"name": "look", "arguments": '{"at": 1}'}
    calls = [{"id": i, "type": "function", "function": function} for i in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(call_id: str, text: str = "found") -> Message:
    """A tool's message."""
    return {"role": "tool", "content": text, "tool_call_id": call_id}


ids = st.sampled_from(CALL_IDS)
message = st.one_of(
    st.sampled_from(["hello", "", " "]).map(user),
    st.sampled_from(["well", ""]).map(lambda text: {"role": "assistant", "content": text}),
    st.just({"role": "system", "content": "be brief"}),
    st.builds(
        lambda called, content: call(*called, content=content),
        st.lists(ids, min_size=1, max_size=3, unique=True),
        st.none() | st.just("wait"),
    ),
    st.builds(result, ids, st.sampled_from(["1", "2", ""])),
)
conversations = st.lists(message, max_size=14)
