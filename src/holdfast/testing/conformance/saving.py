"""The forms in which a history is handed back."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from holdfast.errors import InvalidMessage
from holdfast.model.message import Message, SyntheticMessage
from holdfast.rules.history import History
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.messages import CALL
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users

FORMS: dict[str, Callable[[History], History]] = {
    "itself": lambda history: history,
    "slice": lambda history: history[:],
    "copy": lambda history: history.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "plus": lambda history: history + [],  # noqa: RUF005 - the operator is what is tested
    "plus-history": lambda history: history + History(),
    "pickle": lambda history: pickle.loads(pickle.dumps(history)),
}


class Saving(Conformance):
    """`set_chat_history`, whatever list it is given."""

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_forms_append(self, store: SessionStore, form: Callable[[History], History]) -> None:
        """Every form of a History remembers its base: an append loses nobody's messages."""
        store.add_messages("s", users("a b"))
        history = form(store.get_chat_history("s"))
        store.add_user_message("s", "other")
        history.append(user("c"))
        store.set_chat_history("s", history)
        assert texts(store.get_chat_history("s")) == ["a", "b", "other", "c"]
        assert history == store.get_chat_history("s")

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_forms_rewrite(self, store: SessionStore, form: Callable[[History], History]) -> None:
        """Every form of a History remembers its base: a rewrite keeps what came after it."""
        store.add_messages("s", users("a b"))
        history = form(store.get_chat_history("s"))
        store.add_user_message("s", "other")
        del history[0]
        assert store.set_chat_history("s", history).kept == 1
        assert texts(store.get_chat_history("s")) == ["b", "other"]

    @pytest.mark.parametrize(
        ("cut", "left"),
        [(slice(1, None), "b c"), (slice(-1, None), "c"), (slice(None, 2), "a b")],
        ids=str,
    )
    def test_slices(self, store: SessionStore, cut: slice, left: str) -> None:
        """A slice that omits messages is a rewrite, and keeps what came after its base."""
        store.add_messages("s", users("a b c"))
        history = store.get_chat_history("s")
        store.add_user_message("s", "other")
        store.set_chat_history("s", history[cut])
        assert texts(store.get_chat_history("s")) == [*left.split(), "other"]

    def test_plus_messages(self, store: SessionStore) -> None:
        """`history + messages` is an append, `messages + history` a rewrite; both keep the base."""
        store.add_user_message("s", "a")
        history = store.get_chat_history("s")
        store.add_user_message("s", "other")
        store.set_chat_history("s", history + users("b"))
        again = store.get_chat_history("s")
        store.add_user_message("s", "later")
        store.set_chat_history("s", users("first") + again)
        assert texts(store.get_chat_history("s")) == ["first", "a", "other", "b", "later"]

    def test_plain_forms(self, store: SessionStore) -> None:
        """`list(history)` and a comprehension are plain lists: the history becomes exactly them."""
        store.add_user_message("s", "a")
        history = store.get_chat_history("s")
        store.add_user_message("s", "other")
        store.set_chat_history("s", list(history))
        assert texts(store.get_chat_history("s")) == ["a"]

    def test_partial(self, store: SessionStore) -> None:
        """A History read with a limit cannot be handed back, even if it happens to be whole."""
        store.add_messages("s", users("a b"))
        for limit in (1, 2, 9):
            history = store.get_chat_history("s", limit)
            history.append(user("c"))
            with pytest.raises(InvalidMessage) as caught:
                store.set_chat_history("s", history)
            assert "max_messages" in str(caught.value)
            assert caught.value.hint
            with pytest.raises(InvalidMessage):
                store.set_chat_history("s", history[:1])
        assert texts(store.get_chat_history("s")) == ["a", "b"]

    def test_of_another_session(self, store: SessionStore) -> None:
        """Another session's History carries no base: the history becomes exactly it."""
        store.add_messages("s", users("a"))
        store.add_messages("t", users("b c"))
        history = store.get_chat_history("s")
        store.set_chat_history("t", history)
        assert texts(store.get_chat_history("t")) == ["a"]
        assert texts(store.get_chat_history("s")) == ["a"]

    def test_limited_of_another_session(self, store: SessionStore) -> None:
        """A part of another session's history may begin a session."""
        store.add_messages("s", users("a b"))
        store.set_chat_history("t", store.get_chat_history("s", 1))
        assert texts(store.get_chat_history("t")) == ["b"]

    def test_stand_ins(self, subject: Subject, store: SessionStore) -> None:
        """Dicts that were read stand for the stored messages: ids, times and metadata survive."""
        for text in "abc":
            store.add_user_message("s", text, metadata={"about": text})
            subject.script.advance(1000)
        before = {m["content"]: m for m in store.get_messages("s")}
        history = store.get_chat_history("s")
        history[1] = user("x")
        store.set_chat_history("s", history)
        after = store.get_messages("s")
        assert [after[0], after[2]] == [before["a"], before["c"]]
        assert after[1]["id"] != before["b"]["id"]

    def test_stand_ins_in_plain_list(self, subject: Subject, store: SessionStore) -> None:
        """The dicts of a comprehension stand for the stored messages too."""
        store.add_messages("s", [{**user(text), "metadata": {"about": text}} for text in "abc"])
        before = store.get_messages("s")
        subject.script.advance(1000)
        store.set_chat_history("s", [m for m in store.get_chat_history("s") if m["content"] != "b"])
        assert store.get_messages("s") == [before[0], before[2]]

    def test_whole_messages_come_back(self, store: SessionStore) -> None:
        """What `get_messages` gave may be saved: an append with a base, else exactly as it is."""
        store.add_messages("s", [{**user("a"), "metadata": {"n": 1}}, user("b")])
        whole = store.get_messages("s")
        base = store.get_chat_history("s").revision
        store.set_chat_history("s", [*whole, user("c")], base_revision=base)
        assert store.get_messages("s")[:2] == whole
        assert len(store.read_entries("s")) == 2
        store.set_chat_history("s", whole[::-1])
        assert store.get_messages("s") == whole[::-1]

    def test_duplicates(self, store: SessionStore) -> None:
        """Equal messages each stand for one stored message, in order; the rest are new."""
        store.add_messages("s", users("a a x"))
        ids = [m["id"] for m in store.get_messages("s")]
        history = store.get_chat_history("s")
        history[:] = users("a a a")
        store.set_chat_history("s", history)
        stored = [m["id"] for m in store.get_messages("s")]
        assert stored[:2] == ids[:2]
        assert stored[2] not in ids

    def test_settles_in_place(self, store: SessionStore) -> None:
        """After a save the same object equals the stored history, others' messages included."""
        store.add_user_message("s", "a")
        history = store.get_chat_history("s")
        store.add_user_message("s", "other")
        history.append({**user("b"), "metadata": {"n": 1}})
        alias = history
        store.set_chat_history("s", history)
        assert alias is history
        assert history == store.get_chat_history("s") == users("a other b")
        assert history.revision == store.get_chat_history("s").revision

    def test_mutated_dict(self, store: SessionStore) -> None:
        """A dict changed in place makes a rewrite: the base is what was read."""
        store.add_messages("s", users("a b"))
        history = store.get_chat_history("s")
        store.add_user_message("s", "other")
        history[0]["content"] = "redacted"
        assert store.set_chat_history("s", history).kept == 1
        assert texts(store.get_chat_history("s")) == ["redacted", "b", "other"]

    @pytest.mark.parametrize(
        ("old", "new"), [(1, True), (1, 1.0), (True, 1.0), (0, False), (0.0, -0.0)], ids=str
    )
    def test_equal_but_different(self, store: SessionStore, old: object, new: object) -> None:
        """True, 1 and 1.0 are equal in Python and different contents here."""
        store.add_messages("s", [{"role": "user", "content": [{"type": "x", "n": old}]}])
        history = store.get_chat_history("s")
        history[0]["content"][0]["n"] = new
        store.set_chat_history("s", history)
        (stored,) = store.get_messages("s")
        assert repr(stored["content"][0]["n"]) == repr(new)
        assert repr(history[0]["content"][0]["n"]) == repr(new)

    def test_synthetic_results_are_dropped(self, store: SessionStore) -> None:
        """What reading invented to close a call is never stored."""
        store.add_message("s", "assistant", None, tool_calls=[CALL])
        history = store.get_chat_history("s")
        assert isinstance(history[1], SyntheticMessage)
        history.append(user("a"))
        store.set_chat_history("s", history)
        assert [m["role"] for m in store.get_messages("s")] == ["assistant", "user"]
        history[0] = user("x")
        store.set_chat_history("s", history)
        assert texts(store.get_messages("s")) == ["x", "a"]

    def test_real_result_after_synthetic(self, store: SessionStore) -> None:
        """A result that arrives later takes the invented one's place."""
        store.add_message("s", "assistant", None, tool_calls=[CALL])
        history = store.get_chat_history("s")
        history.append({"role": "tool", "tool_call_id": "c1", "content": "12:00"})
        store.set_chat_history("s", history)
        assert texts(store.get_chat_history("s")) == [None, "12:00"]
        assert history == store.get_chat_history("s")

    @pytest.mark.parametrize("repair", [True, False])
    def test_unrepaired_is_a_base_too(self, store: SessionStore, *, repair: bool) -> None:
        """A history read without repair is the same base: saving it with a tail is an append."""
        stray: Message = {"role": "tool", "tool_call_id": "nobody", "content": "?"}
        store.add_messages("s", [user("a"), stray, user("b")])
        history = store.get_chat_history("s", repair=repair)
        history.append(user("c"))
        store.set_chat_history("s", history)
        assert [m["role"] for m in store.get_messages("s")] == ["user", "tool", "user", "user"]

    def test_identity_in_another_store(self, subject: Subject, store: SessionStore) -> None:
        """A History read through another store on the same data is a base here."""
        store.add_user_message("s", "a")
        history = subject.open_elsewhere().get_chat_history("s")
        store.add_user_message("s", "other")
        history.append(user("b"))
        store.set_chat_history("s", history)
        assert texts(store.get_chat_history("s")) == ["a", "other", "b"]

    def test_past_stays(self, store: SessionStore) -> None:
        """A rewrite, a replacement and a clear destroy nothing: each state can be read again."""
        store.add_messages("s", users("a b"))
        states = {store.get_chat_history("s").revision: ["a", "b"]}
        history = store.get_chat_history("s")
        store.set_chat_history("s", history[1:])
        states[store.get_chat_history("s").revision] = ["b"]
        store.set_chat_history("s", users("x"))
        states[store.get_chat_history("s").revision] = ["x"]
        store.clear_session("s")
        states[store.get_chat_history("s").revision] = []
        for revision, state in states.items():
            assert texts(store.get_chat_history("s", at=revision)) == state
        assert len(states) == 4
