"""Messages to JSON lines and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import CorruptEntry, InvalidMessage
from holdfast.model.entry import EntryKind
from holdfast.rules import codec

STAMP = (lambda: "msg_1", "2026-01-01T00:00:00.000Z")

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": texts},
    optional={
        "name": texts,
        "metadata": st.dictionaries(texts, values, max_size=4),
        "anything": values,
        "id": values,
        "created_at": values,
    },
)


def user(**extra: Any) -> dict[str, Any]:
    """A user's message with more keys."""
    return {"role": "user", "content": "a", **extra}


def stored(message: dict[str, Any]) -> bytes:
    """The JSON line of a message."""
    return codec.encode_message(message, "message", STAMP)


def exactly(value: object) -> str:
    """A text that tells equal values of different types apart, and -0.0 from 0.0."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{exactly(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(exactly, value)) + "]"
    return f"{type(value).__name__}:{value!r}"


def kind(value: object) -> str:
    """The name of a value's type, which is the same in every process."""
    return type(value).__name__


def refused(message: Any) -> InvalidMessage:
    """The error that storing a message raises."""
    with pytest.raises(InvalidMessage) as caught:
        stored(message)
    return caught.value


@given(messages)
def test_round_trip(message: dict[str, Any]) -> None:
    """What is stored comes back exactly: values, types, keys and their order."""
    (back,) = codec.decode_whole([stored(message)])
    whole = {**message, **{k: back[k] for k in ("id", "created_at") if k not in message}}
    assert exactly(back) == exactly(whole)


@given(st.lists(messages, max_size=6))
def test_lines(several: list[dict[str, Any]]) -> None:
    """Payloads of several messages come apart again, whatever line breaks the texts hold."""
    lines = [stored(message) for message in several]
    assert all(b"\n" not in line for line in lines)
    payloads = [entry.payload for entry in codec.chunked(lines)]
    assert codec.split_lines(payloads) == lines
    assert exactly(codec.decode_whole(payloads)) == exactly(
        [codec.decode_whole([line])[0] for line in lines]
    )


@given(messages)
def test_plain_json(message: dict[str, Any]) -> None:
    """Any JSON reader reads a payload: the one of the standard library sees the same values."""
    assert exactly(json.loads(stored(message))) == exactly(codec.decode_whole([stored(message)])[0])


@given(values, values)
def test_canonical(one: Any, other: Any) -> None:
    """Canonical bytes are equal for equal contents, and differ where a type does."""
    assert codec.canonical(one) == codec.canonical(json.loads(json.dumps(one)))
    if not isinstance(one, dict | list) and exactly(one) != exactly(other):
        assert codec.canonical(one) != codec.canonical(other)


def test_canonical_numbers() -> None:
    """True, 1 and 1.0 are three contents; the order of keys is no content."""
    assert len({codec.canonical(value) for value in (True, 1, 1.0, "1")}) == 4
    assert codec.canonical({"a": 1, "b": 2}) == codec.canonical({"b": 2, "a": 1})


@given(st.lists(st.sampled_from(["a", "b", 0, 1]), max_size=5))
def test_path(steps: list[str | int]) -> None:
    """The path leads to the value at fault, through dicts and lists."""
    value: Any = math.nan
    for step in reversed(steps):
        value = {step: value} if isinstance(step, str) else [None] * step + [value]
    path = "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in steps)
    assert refused(user(x=value)).path == f"message.x{path}"


@pytest.mark.parametrize("value", [math.inf, {1}, {}.keys(), b"a", object(), 1j, len], ids=kind)
def test_no_json(value: Any) -> None:
    """What JSON does not know is refused, never coerced."""
    assert refused(user(x=[value])).path == "message.x[0]"


@pytest.mark.parametrize("key", [1, 1.5, None, True, ("a",), b"a"], ids=repr)
def test_keys_are_text(key: Any) -> None:
    """A key that is no text is refused, at the dict that holds it."""
    assert refused(user(x={"y": {key: 1}})).path == "message.x.y"


def test_no_parts() -> None:
    """Content without parts is refused, taken beside calls, and read back where it is older."""
    empty = {"role": "user", "content": [], "id": "m", "created_at": "2026-01-01T00:00:00.000Z"}
    assert refused(empty).path == "message.content"
    line = codec.encode_stored(empty, "message")
    assert codec.decode_whole([line]) == [empty]
    assert codec.decode_provider([line])[0]["content"] == []
    calls = [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]
    (called,) = codec.decode_provider(
        [stored({"role": "assistant", "content": [], "tool_calls": calls})]
    )
    assert called == {"role": "assistant", "content": None, "tool_calls": calls}


@pytest.mark.parametrize("text", [chr(0xD800), f"a{chr(0xDFFF)}b", chr(0xDC80)], ids=ascii)
def test_surrogates(text: str) -> None:
    """A lone surrogate is refused as a value and as a key, and the path itself can be printed."""
    assert refused(user(x=["fine", text])).path == "message.x[1]"
    error = refused(user(x={text: 1}))
    assert error.path.startswith("message.x.")
    assert str(error).encode()


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}], ids=["lists", "dicts"])
def test_depth(wrap: Any) -> None:
    """A value may be nested to the limit, and is read back; one level more is refused."""

    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = wrap(value)
        return value

    deepest = user(x=nested(codec.MAX_DEPTH))
    assert codec.decode_whole([stored(deepest)])[0]["x"] == deepest["x"]
    assert "nested" in str(refused(user(x=nested(codec.MAX_DEPTH + 1))))


def test_cycles() -> None:
    """A value that holds itself is refused, not followed for ever."""
    loop: list[Any] = []
    loop.append({"again": loop})
    assert "nested" in str(refused(user(x=loop)))


def test_size() -> None:
    """A message of 16 MiB is stored; one byte more is refused."""
    fixed = len(stored({**user(), "content": ""}))
    limit = codec.MAX_MESSAGE_BYTES - fixed
    assert len(stored({**user(), "content": "x" * limit})) == 16 * 1024 * 1024
    assert "bytes" in str(refused({**user(), "content": "x" * (limit + 1)}))


def test_size_counts_bytes() -> None:
    """The limit is one of bytes, not of characters."""
    refused({**user(), "content": "\u00e9" * (codec.MAX_MESSAGE_BYTES // 2)})


@settings(max_examples=150)
@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats() | st.binary(),
        lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v),
    )
)
def test_nothing_else_escapes(value: Any) -> None:
    """Whatever is given is stored or refused as InvalidMessage; no other error comes out."""
    paths: list[str] = []
    for message in (
        value,
        user(x=value),
        {"role": value, "content": "a"},
        {"role": "user", "content": value},
        {"role": "assistant", "content": "a", "tool_calls": value},
        {"role": "tool", "content": "a", "tool_call_id": value},
    ):
        try:
            line = stored(message)
        except InvalidMessage as refusal:
            paths.append(refusal.path)
        else:
            assert codec.decode_whole([line])
    assert all(path.startswith("message") for path in paths)


@given(messages)
def test_provider_form(message: dict[str, Any]) -> None:
    """The provider-ready form has nothing that a provider refuses, and the rest as it was."""
    (shown,) = codec.decode_provider([stored(message)])
    assert set(shown) <= {"role", "content", "name", "tool_calls", "tool_call_id"}
    assert (shown["role"], shown["content"]) == (message["role"], message["content"])
    assert shown.get("name", "") == message.get("name", "")


@given(st.integers(0, 300))
def test_chunks(count: int) -> None:
    """Chunks hold every line once, in order, up to 64 each, and count them."""
    lines = [b'{"n":%d}' % number for number in range(count)]
    entries = codec.chunked(lines)
    assert codec.split_lines([entry.payload for entry in entries]) == lines
    assert sum(entry.count for entry in entries) == count
    assert all(1 <= entry.count <= 64 for entry in entries)


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    """A payload in which any bit has changed is corrupt, and the error names its entry."""
    entry = codec.new_entry(EntryKind.MESSAGE, [stored(user(x="some text"))])
    assert codec.check_payload("s", 7, entry.payload, entry.checksum) == entry.payload
    bit = data.draw(st.integers(0, len(entry.payload) * 8 - 1))
    damaged = bytearray(entry.payload)
    damaged[bit // 8] ^= 1 << bit % 8
    for payload in (bytes(damaged), entry.payload[:-1], entry.payload + b" ", b"", None):
        with pytest.raises(CorruptEntry) as caught:
            codec.check_payload("s", 7, payload, entry.checksum)
        assert (caught.value.session_id, caught.value.revision) == ("s", 7)
        intact = data.draw(st.integers(0, 3 * codec.FIRST_ROWS))
        rows = [(revision, entry.payload, entry.checksum) for revision in range(intact)]
        rows.append((777, payload, entry.checksum))  # type: ignore[arg-type] # a damaged column
        with pytest.raises(CorruptEntry) as caught:
            codec.joined_entries("s", rows)
        assert caught.value.revision == 777
        with pytest.raises(codec.Damaged) as found:
            codec.joined((held, checksum) for _, held, checksum in rows)
        assert found.value.index == intact


@given(st.lists(st.integers(1, 4_000), max_size=300))
def test_joining(sizes: list[int]) -> None:
    """Joined payloads hold the same lines in order, in few blocks of about equal size."""
    entries = [codec.new_entry(EntryKind.MESSAGE, [b"x" * size]) for size in sizes]
    blocks = codec.joined((entry.payload, entry.checksum) for entry in entries)
    assert codec.split_lines(blocks) == [entry.payload for entry in entries]
    assert len(blocks) <= 2 + len(sizes) // codec.FIRST_ROWS + sum(sizes) * 4 // codec.SLICE_BYTES


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(0, 32))
def test_first_messages(sizes: list[int], count: int) -> None:
    """The first messages of some payloads are cut at the very message, and nothing is changed."""
    numbers = iter(range(100))
    payloads = [b"\n".join(b"%d" % next(numbers) for _ in range(size)) for size in sizes]
    found = codec.first_messages(payloads, count)
    assert codec.split_lines(found) == codec.split_lines(payloads)[:count]
    assert all(payload.startswith(cut) for cut, payload in zip(found, payloads, strict=False))
