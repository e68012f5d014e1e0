"""Exporting and importing: the log leaves as text and comes back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from holdfast.errors import Conflict, InvalidArgument, InvalidExport, Purged, SessionNotFound
from holdfast.model.entry import Entry, MetaEntry, ResetEntry
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users
from holdfast.testing.conformance.tools import call, result

NASTY = 'naïve 漢字 👩‍🚀 \u2028\x85\x1b[2J \r\n\t "quoted" \\ \x7f'


def fill(subject: Subject, store: SessionStore, session_id: str) -> None:
    """Make a session with a bit of everything that a log can hold."""

    def later() -> None:
        subject.script.advance(1017)

    store.create_session(session_id, title=NASTY, user_id="u", metadata={"a": [1, 1.5, None]})
    later()
    store.add_messages(session_id, [{**user(NASTY), "metadata": {"n": 1e300}}, user("b")])
    store.label(session_id, "first")
    later()
    store.add_messages(session_id, [call("c1"), result("c1", "1")], key="k")
    store.set_chat_history(session_id, store.get_chat_history(session_id)[1:])
    later()
    store.add_messages(session_id, users(" ".join(map(str, range(100)))))
    store.compact_session(session_id, NASTY, keep_last=80)
    store.update_session_metadata(session_id, b="x")
    later()
    store.label(session_id, NASTY)
    store.rewind_session(session_id, -3)
    store.add_messages(session_id, users("last"))


def moved(entries: list[Entry], by: int) -> list[Any]:
    """Return what entries say, with their revisions moved."""
    found: list[Any] = []
    for entry in entries:
        fields = structs.asdict(entry)
        fields["revision"] += by
        if isinstance(entry, ResetEntry):
            fields["last_revision"] += by
            if entry.base_revision is not None:
                fields["base_revision"] += by
        if isinstance(entry, MetaEntry) and "labels" in entry.changes:
            labels = {name: at + by for name, at in entry.changes["labels"].items()}
            fields["changes"] = {**entry.changes, "labels": labels}
        found.append((entry.kind, fields))
    return found


def assert_twins(
    one: SessionStore, session: str, other: SessionStore, twin: str, *, purged: bool = False
) -> None:
    """Check that every read of two sessions shows the same, but for where revisions begin."""
    info, copy = one.get_session(session), other.get_session(twin)
    by = copy.revision - info.revision
    for name in ("title", "user_id", "agent_name", "created_at", "updated_at"):
        assert getattr(info, name) == getattr(copy, name)
    assert repr(info.metadata) == repr(copy.metadata)
    assert (info.message_count, info.status) == (copy.message_count, copy.status)
    assert {name: at + by for name, at in info.labels.items()} == copy.labels
    entries = one.read_entries(session)
    assert moved(entries, by) == moved(other.read_entries(twin), 0)
    first = entries[0].revision - 1 if entries else info.revision
    for at in range(first, info.revision + 1):
        try:
            wanted = one.get_messages(session, at=at)
        except Purged:
            assert purged
            with pytest.raises(Purged):
                other.get_messages(twin, at=at + by)
            continue
        assert repr(other.get_messages(twin, at=at + by)) == repr(wanted)
    history = one.get_chat_history(session)
    assert other.get_chat_history(twin) == history
    assert other.get_chat_history(twin).revision == history.revision + by
    assert other.verify(twin).problems == []


class Exporting(Conformance):
    """`import_session` gives back what `export_session` took down."""

    def test_same_store(self, subject: Subject, store: SessionStore) -> None:
        """A session comes back under another id, every revision of it, and goes on from there."""
        fill(subject, store, "s")
        text = store.export_session("s")
        info = store.import_session(text, "t")
        assert info == store.get_session("t")
        assert_twins(store, "s", store, "t")
        for at in ("first", NASTY):
            assert store.get_messages("t", at=at) == store.get_messages("s", at=at)
        assert store.list_sessions()[0].id == "t"
        store.add_messages("t", users("x"))
        store.rewind_session("t", "first")
        assert store.verify().problems == []
        assert len(store.get_chat_history("s")) != len(store.get_chat_history("t"))

    def test_another_tenant(self, subject: Subject, store: SessionStore) -> None:
        """An export goes to another tenant under its own id; the original is not touched."""
        store.add_messages("before", users("x"))
        fill(subject, store, NASTY)
        before = store.export_session(NASTY)
        other = subject.open("other")
        assert other.import_session(before).id == NASTY
        assert_twins(store, NASTY, other, NASTY)
        assert store.export_session(NASTY) == before
        assert other.export_session(NASTY) == before

    def test_again_and_again(self, subject: Subject, store: SessionStore) -> None:
        """An import exports the same text; so does what replaces a deleted session."""
        fill(subject, store, "s")
        text = store.export_session("s")
        store.delete_session("s")
        store.import_session(text)
        assert store.export_session("s") == text
        store.import_session(text.replace("\n", "\r\n") + "\n \n", "t")
        assert_twins(store, "s", store, "t")

    def test_purged(self, subject: Subject, store: SessionStore) -> None:
        """What was purged is not exported, and is purged in the import too."""
        fill(subject, store, "s")
        store.purge("s")
        text = store.export_session("s")
        assert '"c1"' not in text
        store.import_session(text, "t")
        assert_twins(store, "s", store, "t", purged=True)
        with pytest.raises(Purged):
            store.get_chat_history("t", at="first")
        store.clear_session("t")
        assert store.purge("t").sessions == 1
        assert store.verify().problems == []

    def test_small_sessions(self, store: SessionStore) -> None:
        """A session without entries, and one without messages, come back too."""
        store.create_session("empty")
        store.create_session("titled", title="T")
        for name in ("empty", "titled"):
            store.import_session(store.export_session(name), f"{name}2")
            assert_twins(store, name, store, f"{name}2")

    def test_fork(self, store: SessionStore) -> None:
        """Where a fork came from is part of its log, and names the original's revision."""
        store.add_messages("s", users("a"))
        store.fork_session("s", "f")
        store.import_session(store.export_session("f"), "g")
        (one, *_), (other, *_) = store.read_entries("f"), store.read_entries("g")
        assert isinstance(one, MetaEntry)
        assert isinstance(other, MetaEntry)
        assert one.changes == other.changes

    def test_readable(self, subject: Subject, store: SessionStore) -> None:
        """Each line is a JSON object; revisions count from the session's start."""
        fill(subject, store, "s")
        header, *entries, closing = map(json.loads, store.export_session("s").splitlines())
        assert (header["format"], header["version"]) == ("holdfast-session", 1)
        assert header["session"]["id"] == "s"
        assert header["session"]["created_at"] == "2023-11-14T22:13:20.000Z"
        assert [entry["revision"] for entry in entries] == list(range(1, len(entries) + 1))
        messages = sum(len(entry.get("messages", ())) for entry in entries)
        assert closing == {"end": {"entries": len(entries), "messages": messages}}

    def test_keys(self, subject: Subject, store: SessionStore) -> None:
        """Idempotency keys come back too: a request that is sent again is recognised."""
        store.add_messages("s", users("a"), key="k")
        store.set_chat_history("s", store.get_chat_history("s")[1:], key=NASTY)
        store.add_messages("s", users("b"), key="later")
        text = store.export_session("s")
        other = subject.open("other")
        for there, name in ((store, "t"), (other, "s")):
            there.import_session(text, name)
            commit = there.add_messages(name, users("a"), key="k")
            assert (commit.replayed, commit.revision) == (
                True,
                there.read_entries(name)[0].revision,
            )
            assert there.set_chat_history(name, [], key=NASTY).replayed
            with pytest.raises(Conflict):
                there.set_chat_history(name, [], key="later")
            assert texts(there.get_chat_history(name)) == ["b"]
            assert not there.add_messages(name, users("c"), key="new").replayed
        start = text.index(',"keys"')
        store.import_session(text[:start] + text[text.index("}}}", start) + 2 :], "older")
        assert not store.add_messages("older", users("a"), key="k").replayed

    def test_existing(self, store: SessionStore) -> None:
        """A session that is there is not touched by an import."""
        store.add_messages("s", users("a"))
        text = store.export_session("s")
        store.add_messages("s", users("b"))
        store.create_session("t")
        for session_id in (None, "s", "t"):
            with pytest.raises(Conflict) as caught:
                store.import_session(text, session_id)
            assert caught.value.code == "session_exists"
        assert texts(store.get_chat_history("s")) == ["a", "b"]

    def test_unknown(self, store: SessionStore) -> None:
        """There is nothing to export of a session that is not there."""
        with pytest.raises(SessionNotFound):
            store.export_session("s")

    def test_cut_anywhere(self, store: SessionStore) -> None:
        """A text that was cut, at any character, is refused, and nothing is written."""
        store.add_messages("s", users("a b"))
        store.rewind_session("s", -1)
        text = store.export_session("s")
        for end in range(len(text) - 1):
            with pytest.raises(InvalidExport) as caught:
                store.import_session(text[:end], "t")
            assert caught.value.line <= text[:end].count("\n") + 2
        assert not store.session_exists("t")
        store.import_session(text[:-1], "t")  # only the last line's end is missing

    def test_missing_lines(self, subject: Subject, store: SessionStore) -> None:
        """A text that lacks a line, has one twice, or two in another order, is refused."""
        fill(subject, store, "s")
        lines = store.export_session("s").splitlines(keepends=True)
        for index in range(len(lines)):
            broken = [lines[:index] + lines[index + 1 :], lines[:index] + lines[index:][:1] * 2]
            broken[1] += lines[index + 1 :]
            if index:
                swapped = lines[:]
                swapped[index - 1 : index + 1] = reversed(swapped[index - 1 : index + 1])
                broken.append(swapped)
            for number, parts in enumerate(broken):
                if "".join(parts) != "".join(lines):
                    with pytest.raises(InvalidExport):
                        store.import_session("".join(parts), f"t{number}")
        assert [info.id for info in store.list_sessions()] == ["s"]

    @pytest.mark.parametrize(
        ("line", "old", "new"),
        [
            (1, '"version":1', '"version":2'),
            (1, "holdfast-session", "something-else"),
            (1, '"title":"T"', '"title":"U"'),
            (1, '"title":"T"', '"title":5'),
            (1, '"message_count":1', '"message_count":2'),
            (1, '"floor":0', '"floor":3'),
            (1, '"id":"s"', '"id":""'),
            (1, '"labels":{"x":2}', '"labels":{"x":3}'),
            (1, '"created_at":"2', '"created_at":"x2'),
            (1, '"k":{"kind":"add"', '"":{"kind":"add"'),
            (1, '"k":{"kind":"add"', '"k":{"kind":"copy"'),
            (1, '"k":{"kind":"add"', '"k":{"kind":"turn"'),
            (1, '"k":{"kind":"add"', '"k":{"turn":"t","kind":"add"'),
            (1, '"revision":2,"kept":0', '"revision":6,"kept":0'),
            (1, '"revision":2,"kept":0', '"revision":2,"kept":-1'),
            (2, '"revision":1', '"revision":0'),
            (2, '"kind":"meta"', '"kind":"surprise"'),
            (2, '"title":"T"', '"title":["T"]'),
            (2, '"title":"T"', '"title":"\\u0000"'),
            (2, '"title":"T"', '"title":"T","user_id":""'),
            (3, '"role":"user"', '"role":"robot"'),
            (3, '"content":"a"', '"content":7'),
            (3, '"id":"msg', '"di":"msg'),
            (3, '"at":"2', '"at":"yesterday 2'),
            (3, '"messages":[', '"messages":[5,'),
            (4, '{"x":2}', '{"x":99}'),
            (4, '{"x":2}', '{"7":2}'),
            (5, '"closed":2', '"closed":3'),
            (5, '"last":5', '"last":9'),
            (5, '"reason":"rewind"', '"reason":null'),
            (6, '"revision":5', '"revision":4294967301'),
            (7, '"entries":5', '"entries":6'),
            (7, '"messages":3', '"messages":2'),
        ],
    )
    def test_damaged(self, store: SessionStore, line: int, old: str, new: str) -> None:
        """A text that contradicts itself or our format names the line, and nothing is written."""
        store.create_session("s", title="T")
        store.add_messages("s", users("a b"), key="k")
        store.label("s", "x")
        store.rewind_session("s", -1)
        lines = store.export_session("s").split("\n")
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        with pytest.raises(InvalidExport) as caught:
            store.import_session("\n".join(lines), "t")
        error = caught.value
        assert error.code == ("newer_export" if "version" in new else "invalid_export")
        wrong = {'"floor":3': 3, '"last":9': 5, '"labels":{"x":3}': 1}.get(new, line)
        assert error.line == wrong
        assert f"line {wrong}: " in error.message
        assert not store.session_exists("t")

    @pytest.mark.parametrize("text", ["", " \n", "hello", "[]", "{}", '{"format":"x"}', "\ud800"])
    def test_foreign(self, store: SessionStore, text: str) -> None:
        """What is no export at all is refused."""
        with pytest.raises(InvalidExport) as caught:
            store.import_session(text)
        assert caught.value.hint
        with pytest.raises(InvalidArgument):
            store.import_session(text.encode("utf-8", "replace"))  # type: ignore[arg-type] # bytes are no text
        assert store.list_sessions() == []

    def test_two_sessions(self, store: SessionStore) -> None:
        """A text of two sessions is refused rather than half imported."""
        store.add_messages("s", users("a"))
        text = store.export_session("s")
        with pytest.raises(InvalidExport) as caught:
            store.import_session(text * 2, "t")
        assert caught.value.line == 4
        assert not store.session_exists("t")
