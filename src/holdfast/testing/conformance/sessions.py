"""Sessions: what is known about them, and in which order they are listed."""

from __future__ import annotations

import pytest

from holdfast.errors import Conflict, InvalidArgument, SessionNotFound
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, users


class Sessions(Conformance):
    """Creating, describing, renaming and listing."""

    def test_create(self, subject: Subject, store: SessionStore) -> None:
        """A created session has what it was given, no messages, and the store's time."""
        info = store.create_session(
            "s", title="Title", user_id="u", agent_name="a", metadata={"k": [1]}
        )
        assert info == store.get_session("s")
        assert (info.id, info.title, info.user_id, info.agent_name) == ("s", "Title", "u", "a")
        assert (info.metadata, info.message_count, info.status) == ({"k": [1]}, 0, "idle")
        assert info.created_at == info.updated_at
        assert info.created_at.timestamp() * 1000 == subject.script.now_ms
        assert store.get_chat_history("s") == []

    def test_create_without_id(self, store: SessionStore) -> None:
        """Without an id a session gets one of its own."""
        one, two = store.create_session(), store.create_session()
        assert one.id
        assert one.id != two.id
        assert store.session_exists(one.id)

    def test_create_existing(self, store: SessionStore) -> None:
        """Creating a session that exists is a conflict and changes nothing."""
        store.add_messages("s", users("a"))
        before = store.get_session("s")
        with pytest.raises(Conflict) as caught:
            store.create_session("s", title="x")
        assert caught.value.code == "session_exists"
        assert store.get_session("s") == before

    def test_unknown(self, store: SessionStore) -> None:
        """What is not there cannot be described, renamed or changed, and none of it creates."""
        with pytest.raises(SessionNotFound):
            store.get_session("s")
        with pytest.raises(SessionNotFound):
            store.rename_session("s", "x")
        with pytest.raises(SessionNotFound):
            store.update_session_metadata("s", a=1)
        assert store.clear_session("s") is False
        assert not store.session_exists("s")

    def test_counts(self, store: SessionStore) -> None:
        """The message count is that of the current history."""
        store.add_messages("s", users("a b c"))
        assert store.get_session("s").message_count == 3
        history = store.get_chat_history("s")
        store.add_messages("s", users("d"))
        store.set_chat_history("s", history[2:])
        assert store.get_session("s").message_count == 2
        store.clear_session("s")
        assert store.get_session("s").message_count == 0

    def test_rename(self, store: SessionStore) -> None:
        """A title can be given, changed and taken away; messages are not touched."""
        store.add_messages("s", users("a"))
        revision = store.get_chat_history("s").revision
        assert store.get_session("s").title is None
        assert store.rename_session("s", "one").title == "one"
        assert store.rename_session("s", None).title is None
        assert store.get_chat_history("s").revision == revision

    def test_metadata(self, store: SessionStore) -> None:
        """Metadata merges key by key; keys that are not named stay."""
        store.create_session("s", metadata={"a": 1, "b": {"x": 1}})
        info = store.update_session_metadata("s", b={"y": True}, c=None)
        assert info.metadata == {"a": 1, "b": {"y": True}, "c": None}
        assert info.metadata["b"]["y"] is True
        assert store.get_session("s") == info

    def test_times(self, subject: Subject, store: SessionStore) -> None:
        """Every change moves a session's time, never backwards; reading does not."""
        created = store.create_session("s")
        subject.script.advance(1000)
        store.get_chat_history("s")
        assert store.get_session("s") == created
        store.add_messages("s", users("a"))
        changed = store.get_session("s")
        assert changed.created_at == created.created_at
        assert (changed.updated_at - created.updated_at).total_seconds() == 1
        subject.script.advance(-5000)
        store.add_messages("s", users("b"))
        assert store.get_session("s").updated_at == changed.updated_at

    def test_newest_first(self, subject: Subject, store: SessionStore) -> None:
        """The session changed last comes first, whatever changed."""
        for name in "abc":
            store.create_session(name)
            subject.script.advance()
        assert [s.id for s in store.list_sessions()] == ["c", "b", "a"]
        store.add_messages("a", users("x"))
        subject.script.advance()
        store.rename_session("b", "x")
        assert [s.id for s in store.list_sessions()] == ["b", "a", "c"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    def test_pages(self, subject: Subject, store: SessionStore, limit: int) -> None:
        """Pages show every session once, also those of one instant, and end with no cursor."""
        for number in range(7):
            store.create_session(f"s{number}")
            subject.script.advance(number % 2)
        whole = [s.id for s in store.list_sessions()]
        assert sorted(whole) == [f"s{number}" for number in range(7)]
        shown: list[str] = []
        page = store.list_sessions(limit)
        while True:
            assert len(page) <= limit
            shown += [s.id for s in page]
            if page.next_cursor is None:
                break
            page = store.list_sessions(limit, cursor=page.next_cursor)
        assert shown == whole

    def test_pages_under_change(self, subject: Subject, store: SessionStore) -> None:
        """A session that changes while pages are turned hides no other one."""
        for name in "abcd":
            store.create_session(name)
            subject.script.advance()
        first = store.list_sessions(2)
        store.add_messages("a", users("x"))
        store.delete_session("c")
        rest = store.list_sessions(2, cursor=first.next_cursor)
        assert [s.id for s in first] == ["d", "c"]
        assert [s.id for s in rest] == ["b"]

    def test_filters(self, subject: Subject, store: SessionStore) -> None:
        """A listing of one user or agent shows that one's sessions only, page by page."""
        for number in range(12):
            user_id, agent = f"u{number % 2}", f"a{number % 3}"
            store.create_session(f"s{number}", user_id=user_id, agent_name=agent)
            subject.script.advance()
        store.create_session("nobody's")
        mine = store.list_sessions(user_id="u0")
        assert [s.id for s in mine] == ["s10", "s8", "s6", "s4", "s2", "s0"]
        both = store.list_sessions(user_id="u0", agent_name="a0")
        assert [s.id for s in both] == ["s6", "s0"]
        assert [s.id for s in store.list_sessions(agent_name="a2")] == ["s11", "s8", "s5", "s2"]
        first = store.list_sessions(4, user_id="u0")
        rest = store.list_sessions(4, cursor=first.next_cursor, user_id="u0")
        assert [*first, *rest] == mine
        assert rest.next_cursor is None
        assert store.list_sessions(user_id="stranger") == []

    @pytest.mark.parametrize("cursor", ["", "x", "1", "1-", "-1", "1-x", "1-2-3", "next"])
    def test_bad_cursor(self, store: SessionStore, cursor: str) -> None:
        """A cursor that no page gave is refused."""
        with pytest.raises(InvalidArgument):
            store.list_sessions(cursor=cursor)

    def test_limit_0(self, store: SessionStore) -> None:
        """A page of nothing is empty."""
        store.create_session("s")
        assert store.list_sessions(0) == []
