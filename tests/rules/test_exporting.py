"""Exports say what a log holds, to the byte; what is damaged is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import CorruptEntry, InvalidExport
from holdfast.model.entry import LogRow
from holdfast.model.session import SessionRow
from holdfast.model.write import KeyRow
from holdfast.rules.exporting import export, time_text
from holdfast.rules.importing import milliseconds, read_export, read_exports
from holdfast.rules.restoring import shifted
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from tests.rules.conversations import user
from tests.rules.test_codec import messages, texts, values


def log_of(
    fill: list[Any], title: str, metadata: dict[str, Any]
) -> tuple[SessionRow, list[LogRow]]:
    """Return a session with these messages, added one by one, rewritten, labelled and rewound."""
    backend = MemoryBackend(Sources())
    store = SessionStore(Engine(backend, Sources()), "default", Sources(), 30)
    store.create_session("other")
    store.create_session("s", title=title, metadata=metadata)
    for message in fill:
        store.add_messages("s", [message, user("x")])
    store.label("s", "all")
    store.edit_history("s", lambda history: history[1:])
    store.rewind_session("s", "all")
    read = backend.read_log("default", "s")
    assert read is not None
    return read.session, list(read.rows)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(messages, max_size=4),
    texts.filter(lambda text: "\0" not in text),
    st.dictionaries(texts.filter(bool), values, max_size=3),
)
def test_restored_to_the_byte(fill: list[Any], title: str, metadata: dict[str, Any]) -> None:
    """Whatever a log holds, the rows that are restored are the rows that were exported."""
    session, rows = log_of(fill, title, metadata)
    keys = {
        "k\x85": KeyRow("add", session.revision, 2),
        "later": KeyRow("add", session.revision + 1, 0),
    }
    text = export(session, rows, keys)
    assert len(text.splitlines()) == len(rows) + 2
    found = read_export(text)
    assert found.session_id == "s"
    assert [shifted(row, session.start) for row in found.restored.rows] == rows
    assert found.restored.keys == {"k\x85": KeyRow("add", found.restored.revision, 2)}
    assert (found.restored.created, found.restored.floor) == (session.created, 0)
    assert found.text == text


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_refused_in_words(data: st.DataObject) -> None:
    """A text with a damaged character is refused with its line, or it is another sound log."""
    session, rows = log_of([user("a"), user("b")], "T", {"a": [1, None]})
    text = export(session, rows, {})
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.sampled_from(["", "\n", "0", "9", '"', "{", "]", ",", "x", "-", "\ud800"]))
    damaged = text[:at] + put + text[at + 1 :]
    refused: InvalidExport | None = None
    try:
        assert len(read_export(damaged).restored.rows) == len(rows)
    except InvalidExport as error:
        refused = error
    assert refused is None or 1 <= refused.line <= damaged.count("\n") + 2


def test_several_sessions() -> None:
    """Exports that follow each other are told apart, and an error names the line of the whole."""
    session, rows = log_of([user("a")], "T", {})
    text = export(session, rows, {})
    joined = f"{text}\n{text}"
    assert [found.text for found in read_exports(joined)] == [text, text]
    with pytest.raises(InvalidExport) as caught:
        list(read_exports(joined[:-9]))
    assert caught.value.line == joined.count("\n")


@pytest.mark.parametrize("at", [0, 1, 999, 1_700_000_000_123, 253_402_300_799_999, -1])
def test_times_are_exact(at: int) -> None:
    """A time as text is the same time again, to the millisecond."""
    assert milliseconds(time_text(at), "at") == at


def test_damaged_logs_are_not_exported() -> None:
    """A session that is not as it was written is named, rather than exported."""
    session, rows = log_of([user("a")], "T", {})
    damaged = [
        rows[0],
        rows[1]._replace(payload=rows[1].payload.replace(b'"a"', b'"b"')),
        *rows[2:],
    ]
    with pytest.raises(CorruptEntry) as caught:
        export(session, damaged, {})
    assert caught.value.revision == rows[1].revision
    with pytest.raises(CorruptEntry):
        export(session._replace(labels="{"), rows, {})


def test_absolute_values_are_moved() -> None:
    """Bases, ends and labels are revisions too, and move with the entries; nothing else does."""
    rows = log_of([user("a")], "T", {"labels": {"x": 1}, "base": 5})[1]
    moved = [shifted(row, 10) for row in rows]
    assert [row.revision for row in moved] == [row.revision + 10 for row in rows]
    assert b'"labels":{"x":1},"base":5' in moved[0].payload
    resets = [row for row in moved if row.kind == "reset"]
    assert [row.ordinal - 10 for row in resets] == [r.ordinal for r in rows if r.kind == "reset"]
    assert str(rows[1].revision + 10).encode() in resets[0].payload
    assert [shifted(row, -10) for row in moved] == rows
