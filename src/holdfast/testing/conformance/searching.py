"""Searching: what is found, what never is, and what comes first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.errors import InvalidArgument
from holdfast.model.entry import MessageEntry
from holdfast.model.search import SearchHit
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, user, users

TEXTS = {
    "greeting": "Hello, Wörld! My name is Ada.",
    "question": "Do you know the café in Lisbon?",
    "answer": "There is a cafe near the name of the rose.",
    "japanese": "東京タワーが好きです",
    "thai": "ที่นี่ประเทศไทย",
}


class Searching(Conformance):
    """A search finds every message of the current histories that fits, and nothing else."""

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("hello", ["greeting"]),
            ("HELLO world", ["greeting"]),
            ("wörld", ["greeting"]),
            ("cafe", ["answer", "question"]),
            ("café lisbon", ["question"]),
            ("name", ["answer", "greeting"]),
            ('"my name"', ["greeting"]),
            ('"name my"', []),
            ('"name of the rose" near', ["answer"]),
            ("lis*", ["question"]),
            ('"the n"*', ["answer"]),
            ("lis", []),
            ("hello lisbon", []),
            ("hello,world", ["greeting"]),
            ("東京", ["japanese"]),
            ("タワー", ["japanese"]),
            ("京東", []),
            ("ประเทศ", ["thai"]),
            ("hello OR lisbon", []),
            ("NOT hello", []),
            ("text:hello", []),
            ("-hello", ["greeting"]),
            ("hello)", ["greeting"]),
            ('"hello', ["greeting"]),
            ("'; DROP TABLE sessions; --", []),
        ],
    )
    def test_queries(self, store: SessionStore, query: str, found: list[str]) -> None:
        """Words, phrases and beginnings are found; what looks like an operator is plain text."""
        for name, text in TEXTS.items():
            store.add_messages(name, [user(text)])
        assert sorted(ids(store.search(query))) == found

    @pytest.mark.parametrize("query", ["", "   ", '""', "*", '" "*', "?!", "\0", "\ud800"])
    def test_no_words(self, store: SessionStore, query: str) -> None:
        """A query without a word is refused, in an empty store too."""
        with pytest.raises(InvalidArgument):
            store.search(query)

    @pytest.mark.parametrize(
        "bad", [{"limit": -1}, {"limit": "1"}, {"user_id": ""}, {"user_id": 1}]
    )
    def test_bad_arguments(self, store: SessionStore, bad: dict[str, Any]) -> None:
        """A limit is a number of 0 or more, a user has a name; a query is text."""
        with pytest.raises(InvalidArgument):
            store.search("a", **bad)
        for query in (None, b"a", 1):
            with pytest.raises(InvalidArgument):
                store.search(query)  # type: ignore[arg-type] # what is refused

    def test_addresses(self, subject: Subject, store: SessionStore) -> None:
        """A hit says where its message stands, whose it is, and when its entry was committed."""
        store.add_messages("s", users("x y"))
        subject.script.advance(1000)
        commit = store.add_messages(
            "s", [user("x"), {"role": "assistant", "content": "A needle here"}, user("x")]
        )
        (hit,) = store.search("needle")
        assert (hit.session_id, hit.revision, hit.index) == ("s", commit.revision, 1)
        assert (hit.role, hit.snippet, hit.matches) == ("assistant", "A needle here", ((2, 8),))
        assert hit.at == datetime.fromtimestamp(subject.script.now_ms / 1000, UTC)
        (entry,) = [e for e in store.read_entries("s") if e.revision == hit.revision]
        assert isinstance(entry, MessageEntry)
        assert entry.messages[hit.index]["content"] == "A needle here"

    def test_long_texts(self, store: SessionStore) -> None:
        """Of a long text the snippet shows the part with the match, and says that there is more."""
        store.add_messages("s", [user("hay " * 3000 + "needle" + " hay" * 3000)])
        (hit,) = store.search("needle")
        ((start, end),) = hit.matches
        assert hit.snippet[start:end] == "needle"
        assert hit.snippet[0] == hit.snippet[-1] == "…"
        assert len(hit.snippet) < 200

    def test_what_a_text_is(self, store: SessionStore) -> None:
        """Content is searched, or the text of its parts; calls, ids and metadata are not."""
        call = {"id": "hidden", "function": {"name": "hidden", "arguments": '{"hidden": 1}'}}
        parts = [{"type": "text", "text": "first"}, {"type": "image", "url": "hidden"}]
        store.add_message("parts", "user", [*parts, {"type": "text", "text": "second"}])
        store.add_message("calls", "assistant", None, tool_calls=[call])
        store.add_message("calls", "tool", "result", tool_call_id="hidden")
        store.add_message("meta", "user", "plain", metadata={"hidden": "hidden"})
        store.rename_session("meta", "hidden")
        assert store.search("hidden") == []
        assert ids(store.search("second first")) == ["parts"]
        assert [hit.role for hit in store.search("result")] == ["tool"]

    def test_what_was_just_said(self, store: SessionStore) -> None:
        """Every message is found as soon as it was acknowledged, however often one searches."""
        for number in range(5):
            store.add_messages("s", users(f"needle {number}"))
            assert len(store.search("needle")) == number + 1
            assert len(store.search(str(number))) == 1

    def test_what_others_said(self, subject: Subject, store: SessionStore) -> None:
        """What another engine wrote is found, and what another engine indexed too."""
        other = subject.open_elsewhere()
        for number in range(3):
            other.add_messages("s", users(f"a{number}"))
            assert len(store.search("a*")) == 2 * number + 1
            store.add_messages("s", users(f"a{number}b"))
            assert len(other.search("a*")) == 2 * number + 2

    def test_current_histories(self, store: SessionStore) -> None:
        """What left the history is not found; what was carried over is, once, where it is now."""
        store.add_messages("s", users("one needle"))
        assert len(store.search("needle")) == 1
        base = store.get_chat_history("s")
        store.add_messages("s", users("later needle"))
        base[0] = user("other")
        commit = store.set_chat_history("s", base)
        assert [hit.revision > commit.revision - 3 for hit in store.search("needle")] == [True] * 2
        assert store.search("one") == []
        assert len(store.search("later")) == 1
        store.clear_session("s")
        assert store.search("needle") == []
        store.add_messages("s", users("needle"))
        assert len(store.search("needle")) == 1

    def test_rewritten_histories(self, store: SessionStore) -> None:
        """A history that is rewritten again and again is found as it is after each rewrite."""
        for number in range(6):
            kept = [user(f"kept{n} of{number}") for n in range(70 - 10 * number)]
            store.set_chat_history("s", kept)
            assert len(store.search(f"of{number}", limit=100)) == len(kept)
            assert store.search(f"of{number - 1}") == []
            (hit,) = store.search("kept9")
            assert f"of{number}" in hit.snippet

    def test_deleted_sessions(self, store: SessionStore) -> None:
        """A deleted session is not found, and a new one with its id has only what is new."""
        store.add_messages("s", users("needle old"))
        store.add_messages("t", users("needle"))
        assert len(store.search("needle")) == 2
        store.delete_session("s")
        assert ids(store.search("needle")) == ["t"]
        store.add_messages("s", users("needle new"))
        assert len(store.search("needle")) == 2
        assert store.search("old") == []
        assert ids(store.search("new")) == ["s"]

    def test_change_after_a_deletion(self, subject: Subject, store: SessionStore) -> None:
        """What is said after the newest session was deleted is found, whatever the clock does."""
        store.add_messages("s", users("one"))
        subject.script.advance(1000)
        store.add_messages("t", users("two"))
        assert len(store.search("one")) == 1
        store.delete_session("t")
        subject.script.advance(-5000)
        store.add_messages("s", users("three"))
        assert ids(store.search("three")) == ["s"]

    def test_users(self, store: SessionStore) -> None:
        """With a user only that user's sessions are searched, also before any are indexed."""
        for name in ("ada", "bob", None):
            store.create_session(f"of {name}", user_id=name)
            store.add_messages(f"of {name}", users("needle"))
        assert ids(store.search("needle", user_id="bob")) == ["of bob"]
        assert len(store.search("needle")) == 3
        assert ids(store.search("needle", user_id="ada")) == ["of ada"]
        assert store.search("needle", user_id="nobody") == []

    def test_tenants(self, subject: Subject) -> None:
        """No query of one tenant finds a message of another, whatever ids and words they share."""
        for tenant in ("a", "b", "ab", "A", "a b"):
            subject.open(tenant).add_messages("s", [user(f"needle {tenant.encode().hex()}")])
        for tenant in ("a", "b", "ab", "A", "a b"):
            store = subject.open(tenant)
            (hit,) = store.search("needle")
            assert hit.snippet.endswith(tenant.encode().hex())
            other = "b" if tenant != "b" else "a"
            for query in (
                f"t{other.encode().hex()}",
                f"tenant:t{other.encode().hex()}",
                f'needle" OR tenant : "t{other.encode().hex()}',
                f"needle {other.encode().hex()}",
                f"{{tenant text}}: t{other.encode().hex()}*",
            ):
                assert store.search(query) == []
        assert subject.open("c").search("needle") == []

    def test_limits(self, store: SessionStore) -> None:
        """At most so many hits are given, and of more those that fit best."""
        store.add_messages("s", [user("needle " + "hay " * n) for n in range(30)])
        hits = store.search("needle", limit=100)
        assert len(hits) == 30
        assert store.search("needle") == hits[:20]
        assert store.search("needle", limit=3) == hits[:3]
        assert store.search("needle", limit=1 << 70) == hits
        assert store.search("needle", limit=0) == []

    def test_the_best_first(self, store: SessionStore) -> None:
        """A message that says a word often, or says little else, comes before others."""
        store.add_messages("s", [user("hay " * 20)] * 5)
        store.add_messages("often", [user("needle needle needle hay")])
        store.add_messages("once", [user("needle hay hay hay")])
        store.add_messages("long", [user("needle" + " hay" * 100)])
        assert ids(store.search("needle")) == ["often", "once", "long"]
        store.add_messages("often", users("more"))  # what the index lacks changes no order
        assert ids(store.search("needle")) == ["often", "once", "long"]

    def test_the_newest_first(self, subject: Subject, store: SessionStore) -> None:
        """Messages that fit equally come newest first, whichever session is older."""
        for name in ("s", "t", "s", "u", "t"):
            store.add_messages(name, users("needle needle"))
            subject.script.advance()
        store.add_messages("s", users("other"))
        expected = ["t", "t", "u", "u", "s", "s", "t", "t", "s", "s"]
        assert ids(store.search("needle")) == expected
        hits = store.search("needle")
        assert [hit.index for hit in hits] == [1, 0] * 5
        assert [hit.at for hit in hits] == sorted((hit.at for hit in hits), reverse=True)


def ids(hits: list[SearchHit]) -> list[str]:
    """Return the sessions of hits, in order."""
    return [hit.session_id for hit in hits]
