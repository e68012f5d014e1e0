"""Reading: the past, the log, limits."""

from __future__ import annotations

import pytest

from holdfast.errors import InvalidArgument, SessionNotFound
from holdfast.model.entry import MessageEntry, MetaEntry, ResetEntry
from holdfast.model.message import Message
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.messages import CALL
from holdfast.testing.conformance.suite import Conformance, texts, user, users

RESULT: Message = {"role": "tool", "tool_call_id": "c1", "content": "12:00"}


class Reading(Conformance):
    """Reads see one committed state, of now or of any revision."""

    def test_unknown_session(self, store: SessionStore) -> None:
        """An unknown session has an empty history at revision 0, and reading does not create it."""
        history = store.get_chat_history("s")
        assert (history, history.revision) == ([], 0)
        assert store.get_messages("s") == []
        with pytest.raises(SessionNotFound):
            store.read_entries("s")
        assert not store.session_exists("s")

    def test_at_every_revision(self, store: SessionStore) -> None:
        """`at=` gives the history as it was after each commit, with and without limits."""
        states: dict[int, list[str]] = {}
        for number in range(5):
            commit = store.add_messages("s", users(f"a{number} b{number}"))
            states[commit.history_revision] = texts(store.get_chat_history("s"))
        history = store.get_chat_history("s")
        del history[2:5]
        commit = store.set_chat_history("s", history)
        states[commit.history_revision] = texts(store.get_chat_history("s"))
        commit = store.add_user_message("s", "c")
        states[commit.history_revision] = texts(store.get_chat_history("s"))
        for revision, state in states.items():
            read = store.get_chat_history("s", at=revision)
            assert (texts(read), read.revision) == (state, revision)
            assert texts(store.get_messages("s", at=revision)) == state
            for limit in range(4):
                last = store.get_chat_history("s", limit, at=revision)
                assert texts(last) == state[max(0, len(state) - limit) :]
                assert last.revision == store.get_chat_history("s", at=revision).revision

    def test_at_metadata(self, store: SessionStore) -> None:
        """A revision that is not the history's own reads the history before it."""
        first = store.add_user_message("s", "a")
        revision = store.rename_session("s", "title").revision
        store.add_user_message("s", "b")
        read = store.get_chat_history("s", at=revision)
        assert (texts(read), read.revision) == (["a"], first.history_revision)

    def test_at_inside_a_reset(self, store: SessionStore) -> None:
        """Inside a rewrite's commit the generation before it is read: never a half one."""
        store.add_messages("s", users("a b"))
        history = store.get_chat_history("s")
        before = history.revision
        store.add_user_message("s", "c")
        history[:] = users(" ".join(f"x{n}" for n in range(150)))
        end = store.set_chat_history("s", history).revision
        assert end - before > 3
        for revision in range(before + 1, end):
            read = store.get_chat_history("s", at=revision)
            assert (texts(read), read.revision) == (["a", "b", "c"], before + 1)
        assert len(store.get_chat_history("s", at=end)) == 151

    def test_at_inside_nested_resets(self, store: SessionStore) -> None:
        """Each of several rewrites in a row reads as its own generation, none as a half one."""
        ends: dict[int, list[str]] = {}
        first = store.add_user_message("s", "a").revision
        ends[first] = ["a"]
        for text in ("x y", "", "z"):
            ends[store.set_chat_history("s", users(text)).revision] = text.split()
        state = ["a"]
        for revision in range(first, max(ends) + 1):
            state = ends.get(revision, state)
            assert texts(store.get_chat_history("s", at=revision)) == state

    @pytest.mark.parametrize("ahead", [1, 1 << 20])
    def test_at_ahead(self, store: SessionStore, ahead: int) -> None:
        """A revision that the session has not come to is refused, not read as the current one."""
        last = store.add_user_message("s", "a").revision
        with pytest.raises(InvalidArgument):
            store.get_chat_history("s", at=last + ahead)

    @pytest.mark.parametrize("at", [1, 1 << 40, 1 << 60])
    def test_at_of_no_session(self, store: SessionStore, at: int) -> None:
        """A revision of another session is refused."""
        store.add_user_message("s", "a")
        with pytest.raises(SessionNotFound):
            store.get_chat_history("s", at=at)
        with pytest.raises(SessionNotFound):
            store.get_messages("unknown", at=at)

    def test_entries(self, store: SessionStore) -> None:
        """The log tells everything that happened, in order, with rising revisions."""
        store.add_messages("s", users("a b"))
        history = store.get_chat_history("s")
        store.add_user_message("s", "c")
        store.rename_session("s", "title")
        store.set_chat_history("s", history[:1])
        store.clear_session("s")
        entries = store.read_entries("s")
        assert [entry.revision for entry in entries] == sorted({e.revision for e in entries})
        first, second, meta, rewrite, kept, carried, clear = entries
        assert isinstance(first, MessageEntry)
        assert texts(list(first.messages)) == ["a", "b"]
        assert isinstance(meta, MetaEntry)
        assert meta.changes == {"title": "title"}
        assert isinstance(rewrite, ResetEntry)
        assert (rewrite.base_revision, rewrite.last_revision) == (first.revision, carried.revision)
        assert isinstance(kept, MessageEntry)
        assert isinstance(carried, MessageEntry)
        assert isinstance(second, MessageEntry)
        assert carried.messages == second.messages
        assert isinstance(clear, ResetEntry)
        assert (clear.reason, clear.base_revision) == ("clear", None)

    def test_entries_after(self, store: SessionStore) -> None:
        """Entries above a revision are the rest of the log, whatever the limit."""
        store.add_user_message("s", "a")
        for number in range(3):
            history = store.get_chat_history("s")
            store.add_messages("s", users(f"b{number} c{number}"))
            store.rename_session("s", f"title {number}")
            store.set_chat_history("s", history[1:])
        whole = store.read_entries("s")
        assert len(whole) > 12
        for limit in range(1, len(whole) + 1):
            read, after = [], 0
            while page := store.read_entries("s", after, limit):
                read += page
                after = page[-1].revision
                ends = max((e.last_revision for e in page if isinstance(e, ResetEntry)), default=0)
                assert ends <= after, "a page ends between a reset and the end of its commit"
            assert read == whole
        assert store.read_entries("s", whole[-1].revision) == []

    def test_entries_of_another_session(self, store: SessionStore) -> None:
        """Entries above another session's revision are refused."""
        store.add_user_message("s", "a")
        other = store.add_user_message("t", "b").revision
        with pytest.raises(SessionNotFound):
            store.read_entries("s", other)

    def test_limit(self, store: SessionStore) -> None:
        """A limit gives that many messages from the end, or all."""
        store.add_messages("s", users("a b c"))
        store.add_user_message("s", "d")
        for limit, last in (
            (0, ""),
            (1, "d"),
            (2, "c d"),
            (3, "b c d"),
            (4, "a b c d"),
            (9, "a b c d"),
        ):
            assert texts(store.get_chat_history("s", limit)) == last.split()
            assert texts(store.get_messages("s", limit)) == last.split()

    def test_limit_and_exchanges(self, store: SessionStore) -> None:
        """A limit never begins inside a tool exchange; it gives fewer messages instead."""
        store.add_user_message("s", "a")
        store.add_message("s", "assistant", None, tool_calls=[CALL, {**CALL, "id": "c2"}])
        store.add_messages("s", [RESULT, {**RESULT, "tool_call_id": "c2"}])
        store.add_user_message("s", "b")
        whole = store.get_chat_history("s")
        for limit, given in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 5)):
            assert store.get_chat_history("s", limit) == whole[len(whole) - given :]

    def test_limit_and_distant_results(self, store: SessionStore) -> None:
        """A result far behind its call stands behind its call under every limit."""
        store.add_user_message("s", "a")
        store.add_message("s", "assistant", None, tool_calls=[CALL])
        for number in range(40):
            store.add_user_message("s", f"b{number}")
        store.add_messages("s", [RESULT])
        store.add_user_message("s", "end")
        whole = store.get_chat_history("s")
        assert [m["role"] for m in whole[:4]] == ["user", "assistant", "tool", "user"]
        for limit in range(len(whole) + 1):
            last = store.get_chat_history("s", limit)
            assert len(last) <= limit
            assert last == whole[len(whole) - len(last) :]
            assert not last or last[0]["role"] != "tool"

    def test_writing_goes_on(self, store: SessionStore) -> None:
        """A history that was read stays as it was read."""
        store.add_user_message("s", "a")
        history = store.get_chat_history("s")
        store.add_user_message("s", "b")
        store.delete_session("s")
        assert texts(history) == ["a"]

    def test_stats(self, store: SessionStore) -> None:
        """Counts are those of the log."""
        store.add_messages("s", users("a b"))
        store.set_chat_history("s", users("x"))
        store.add_user_message("t", "c")
        store.rename_session("t", "title")
        every, one = store.stats(), store.stats("s")
        assert (every.sessions, every.messages, every.entries, every.generations) == (2, 2, 5, 3)
        assert (one.sessions, one.messages, one.entries, one.generations) == (1, 1, 3, 2)
        assert every.size_bytes > 0
        with pytest.raises(SessionNotFound):
            store.stats("unknown")

    def test_verify(self, store: SessionStore) -> None:
        """A sound store verifies, and says how much it checked."""
        store.add_messages("s", users("a b"))
        store.set_chat_history("s", users("x"))
        store.create_session("t", title="title")
        checked = store.verify()
        assert (checked.sessions, checked.entries, checked.messages) == (2, 4, 3)
        assert checked.problems == []
        assert store.verify("s").sessions == 1
        with pytest.raises(SessionNotFound):
            store.verify("unknown")

    def test_unicode(self, store: SessionStore) -> None:
        """Ids are used exactly: forms that look alike are different sessions."""
        names = [
            "a/b",
            "a_b",
            "A/B",
            "a/b ",
            "\u00e9",
            "e\u0301",
            "%2e",
            "..",
            "'; --",
            "\U0001f600",
        ]
        for name in names:
            store.add_messages(name, [user(name)])
        for name in names:
            assert texts(store.get_chat_history(name)) == [name]
        assert {session.id for session in store.list_sessions()} == set(names)
