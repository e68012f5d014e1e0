"""What PraisonAI's users write about session management, with only the imports changed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.errors import ConfigError, InvalidArgument, InvalidMessage
from holdfast.integrations import praisonai
from holdfast.integrations.praisonai import (
    DefaultSessionStore,
    SessionData,
    SessionMessage,
    get_default_session_store,
)


@pytest.fixture
def session_dir(tmp_path: Path) -> str:
    """A folder for sessions."""
    return str(tmp_path / "sessions")


@pytest.fixture
def store(session_dir: str) -> DefaultSessionStore:
    """A drop-in, made as PraisonAI's users make theirs."""
    return DefaultSessionStore(session_dir=session_dir)


@pytest.fixture
def _default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOLDFAST_URL", str(tmp_path / "default.db"))
    monkeypatch.setattr(praisonai.default, "_default", None)
    monkeypatch.setattr("holdfast.store.connect._default", None)


def test_a_conversation(store: DefaultSessionStore, session_dir: str) -> None:
    """Messages are added one by one, and found by another store object on the same folder."""
    assert store.add_message("session-123", "user", "Hello") is True
    assert store.add_message("session-123", "assistant", "Hi there!") is True
    assert store.add_user_message("session-123", "How are you?", {"lang": "en"}) is True
    assert store.add_assistant_message("session-123", "Fine.") is True
    history = DefaultSessionStore(session_dir=session_dir).get_chat_history("session-123")
    assert isinstance(history, list)
    assert history == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there!"},
        {"role": "user", "content": "How are you?"},
        {"role": "assistant", "content": "Fine."},
    ]
    assert store.get_chat_history("session-123", max_messages=2) == history[-2:]
    assert store.get_chat_history("unknown") == []


def test_load_run_save(store: DefaultSessionStore) -> None:
    """A list is loaded, extended and set, and `set_chat_history` says `True`."""
    messages: list[dict[str, Any]] = store.get_chat_history("s")
    messages.append({"role": "user", "content": "One"})
    assert store.set_chat_history("s", messages) is True
    messages = store.get_chat_history("s")
    messages += [{"role": "assistant", "content": "Two"}]
    assert store.set_chat_history("s", messages) is True
    assert store.get_chat_history("s") == messages
    assert store.set_chat_history("s", messages[-1:]) is True
    assert store.get_chat_history("s") == messages[-1:]
    with pytest.raises(InvalidArgument):
        store.set_chat_history("s", ["no message"])  # type: ignore[list-item] # what is tested


def test_a_session_whole(store: DefaultSessionStore) -> None:
    """`get_session` gives data with messages, times, agent, user and metadata."""
    assert store.set_agent_info("s", agent_name="Guide", user_id="ada") is True
    store.add_user_message("s", "Hello", metadata={"lang": "en"})
    assert store.update_session_metadata("s", model="gpt-4o-mini", cost=0.5, unset=None) is True
    assert store.rename_session("s", "  A greeting ") is True
    session = store.get_session("s")
    assert isinstance(session, SessionData)
    assert (session.session_id, session.agent_name, session.user_id) == ("s", "Guide", "ada")
    (message,) = session.messages
    assert isinstance(message, SessionMessage)
    assert (message.role, message.content, message.metadata) == ("user", "Hello", {"lang": "en"})
    assert message.timestamp == pytest.approx(holdfast_time(store), abs=0.01)
    assert session.metadata == {"model": "gpt-4o-mini", "cost": 0.5, "title": "A greeting"}
    assert session.to_dict()["model"] == "gpt-4o-mini"
    assert SessionData.from_dict(session.to_dict()) == session
    assert store.get_session_model("s") == "gpt-4o-mini"
    assert store.get_session_reasoning_effort("s") is None
    store.rename_session("s", "")
    assert "title" not in store.get_session("s").metadata
    assert store.get_session("unknown").messages == []
    store.set_agent_info("s", agent_name="Other")
    assert store.get_session("s").agent_name == "Other"


def holdfast_time(store: DefaultSessionStore) -> float:
    """Return when the first message was stored."""
    return store.store.read_entries("s")[1].at.timestamp()


def test_clearing_and_deleting(store: DefaultSessionStore) -> None:
    """Clearing keeps the session, deleting does not; both say `True`, whatever there was."""
    store.add_user_message("s", "Hello")
    assert store.clear_session("s") is True
    assert store.get_chat_history("s") == []
    assert store.session_exists("s") is True
    assert store.delete_session("s") is True
    assert store.session_exists("s") is False
    assert store.delete_session("s") is True
    assert store.clear_session("s") is True


def test_listing(store: DefaultSessionStore) -> None:
    """Sessions are listed, the latest first, and found by agent and by gateway."""
    for number in range(3):
        store.add_user_message(f"s{number}", f"Hello {number}")
        store.set_agent_info(f"s{number}", agent_name="odd" if number % 2 else "even")
    store.set_gateway_info("s1", gateway_session_id="g1", agent_id="a1")
    rows = store.list_sessions()
    assert [row["session_id"] for row in rows] == ["s1", "s2", "s0"]
    assert (rows[0]["message_count"], rows[0]["agent_name"]) == (1, "odd")
    assert [row["id"] for row in store.list_sessions(limit=1)] == ["s1"]
    assert len(store.list_sessions(limit=None)) == 3
    assert store.list_sessions_by_agent("even") == ["s2", "s0"]
    assert [one.session_id for one in store.get_sessions_by_agent("odd")] == ["s1"]
    assert store.get_agent_chat_history("odd") == [
        {"role": "user", "content": "Hello 1", "session_id": "s1", "agent_name": "odd"}
    ]
    found = store.get_by_gateway_session("g1")
    assert found is not None
    assert (found.session_id, found.agent_id) == ("s1", "a1")
    assert store.get_by_gateway_session("g2") is None
    assert store.list_sessions_by_gateway_agent("a1") == ["s1"]
    assert [one.session_id for one in store.recent(limit=2)] == ["s1", "s2"]


def test_ids_are_used_exactly(store: DefaultSessionStore) -> None:
    """Ids that PraisonAI would write into one file are two sessions."""
    store.add_user_message("telegram:42", "mine")
    store.add_user_message("telegram_42", "yours")
    assert [one["content"] for one in store.get_chat_history("telegram:42")] == ["mine"]
    assert [one["content"] for one in store.get_chat_history("telegram_42")] == ["yours"]


def test_threads(store: DefaultSessionStore) -> None:
    """Threads that add to one session at once all keep their messages."""

    def add(name: int) -> None:
        for number in range(10):
            store.add_user_message("s", f"{name}-{number}")

    threads = [threading.Thread(target=add, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get_chat_history("s")) == 50


def test_tool_calls(store: DefaultSessionStore) -> None:
    """A tool call and its result come back as they were, and a limit keeps them together."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    store.add_user_message("s", "Look")
    store.add_message("s", "assistant", "", tool_calls=[call])
    store.add_message("s", "tool", "found", tool_call_id="c1")
    store.add_assistant_message("s", "There")
    history = store.get_chat_history("s")
    assert history[1] == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert history[2] == {"role": "tool", "content": "found", "tool_call_id": "c1"}
    assert [one["content"] for one in store.get_chat_history("s", 2)] == ["There"]


def test_streaming(store: DefaultSessionStore) -> None:
    """A streamed answer is shown while it grows, and is one message in the end."""
    store.add_user_message("s", "Tell me")
    for text in ("On", "Once", "Once upon"):
        assert store.upsert_partial_assistant_message("s", text) is True
    assert store.get_chat_history("s")[-1] == {"role": "assistant", "content": "Once upon"}
    assert store.get_session("s").messages[-1].metadata == {"partial": True}
    assert store.upsert_partial_assistant_message("s", "Once upon a time", finalize=True) is True
    assert [one["content"] for one in store.get_chat_history("s")] == [
        "Tell me",
        "Once upon a time",
    ]
    assert store.get_session("s").messages[-1].metadata == {}
    store.upsert_partial_assistant_message("s", "no")
    assert store.discard_partial_assistant_message("s") is True
    assert store.upsert_partial_assistant_message("s", "", finalize=True) is True
    assert len(store.get_chat_history("s")) == 2


@pytest.mark.parametrize("content", [None, 1, ["Once"]])
def test_a_streamed_answer_is_text(store: DefaultSessionStore, content: Any) -> None:
    """What is no text is refused, and what was streamed before stands; an end may be without."""
    store.upsert_partial_assistant_message("s", "Once")
    with pytest.raises(InvalidArgument, match=f"not {type(content).__name__}"):
        store.upsert_partial_assistant_message("s", content)
    assert store.get_chat_history("s") == [{"role": "assistant", "content": "Once"}]
    store.upsert_partial_assistant_message("s", None, finalize=True)
    assert store.get_chat_history("s") == []


def test_streaming_that_was_cut(store: DefaultSessionStore, session_dir: str) -> None:
    """What was streamed before a crash is there afterwards, before whatever is added next."""
    store.upsert_partial_assistant_message("s", "Half an")
    after = DefaultSessionStore(session_dir=session_dir)
    assert after.get_chat_history("s") == [{"role": "assistant", "content": "Half an"}]
    after.add_user_message("s", "Go on")
    assert [one["content"] for one in store.get_chat_history("s")] == ["Half an", "Go on"]
    assert store.get_session("s").messages[0].metadata == {"partial": True}


def test_saving_what_is_streamed(store: DefaultSessionStore) -> None:
    """A list that has the streamed answer in it is saved with it once."""
    store.add_user_message("s", "Tell me")
    store.upsert_partial_assistant_message("s", "Half")
    history = store.get_chat_history("s")
    store.set_chat_history("s", [*history, {"role": "user", "content": "Go on"}])
    assert [one["content"] for one in store.get_chat_history("s")] == ["Tell me", "Half", "Go on"]


def test_compaction(store: DefaultSessionStore) -> None:
    """A checkpoint's summary stands before what came after it, until the history is another."""
    for text in ("One", "Two"):
        store.add_user_message("s", text)
    assert store.append_compaction_checkpoint("s", "They count.", tokens_before=9) is True
    assert store.append_compaction_checkpoint("s", "  ") is False
    store.add_user_message("s", "Three")
    summary = {"role": "system", "content": "They count."}
    assert store.get_working_history("s") == [summary, {"role": "user", "content": "Three"}]
    assert len(store.get_chat_history("s")) == 3
    working = store.get_working_history("s")
    store.set_chat_history("s", [*working, {"role": "user", "content": "Four"}])
    assert [one["content"] for one in store.get_chat_history("s")] == [
        "One",
        "Two",
        "Three",
        "Four",
    ]
    checkpoint = store.get_session("s").last_compaction
    assert checkpoint is not None
    assert (checkpoint.message_index, checkpoint.tokens_before) == (2, 9)
    assert store.get_session("s").get_working_history(2)[0] == summary
    store.clear_session("s")
    assert store.get_working_history("s") == []


def test_maps_in_metadata(store: DefaultSessionStore) -> None:
    """Entries of a map that two workers set at once are both there, and a default yields."""
    assert store.merge_session_metadata_map("s", "agents", {"a": [1]}, defaults={"b": [0]}) is True
    store.merge_session_metadata_map("s", "agents", {"b": [2]}, defaults={"a": [0]})
    assert store.get_session("s").metadata == {"agents": {"a": [1], "b": [2]}}
    store.update_session_metadata("s", agents={"c": [3]})
    assert store.get_session("s").metadata == {"agents": {"c": [3]}}
    state = {"calls": ["c1"]}
    assert store.set_runtime_state("s", "native", "t1", state) is True
    assert store.get_runtime_state("s", "native", "t1") == state
    assert store.get_runtime_state("s", "native") == {"t1": state}
    assert store.get_session("s").runtime_state == {"native": {"t1": state}}
    assert store.clear_runtime_state("s") is True
    assert store.get_runtime_state("s", "native") == {}


def test_recall(store: DefaultSessionStore) -> None:
    """A search gives the sessions with the match in its surroundings, and these can be scrolled."""
    for text in ("Hello", "I moved the billing to Friday", "Good", "And the invoices?"):
        store.add_user_message("s", text)
    store.add_user_message("t", "Something else")
    (hit,) = store.search("billing", window=1)
    assert (hit.session_id, hit.anchor_index) == ("s", 1)
    assert "billing" in hit.snippet
    assert [one["index"] for one in hit.messages] == [0, 1, 2]
    assert hit.as_dict()["bookends"]["opening"][0]["content"] == "Hello"
    assert [one["content"] for one in store.window("s", "2", window=0)] == ["Good"]
    assert [one["index"] for one in store.window("s", window=1)] == [2, 3]
    assert store.window("unknown") == []
    assert store.search("") == []


def test_out_and_in(store: DefaultSessionStore, tmp_path: Path) -> None:
    """What one store exports another one imports, once."""
    store.add_user_message("s", "Hello", {"lang": "en"})
    store.update_session_metadata("s", lineage_id="chain")
    store.add_user_message("t", "Hello again")
    store.update_session_metadata("t", lineage_id="chain")
    assert store.export_session("unknown") == {"version": 1, "sessions": []}
    assert len(store.export_session("s", include_lineage=False)["sessions"]) == 1
    payload = store.export_session("s")
    assert payload["version"] == 1
    other = DefaultSessionStore(tmp_path / "other.db")
    report = other.import_sessions(payload)
    assert (report.imported, report.skipped_count) == (2, 0)
    assert other.get_session("s").messages == store.get_session("s").messages
    again = other.import_sessions({"sessions": [*payload["sessions"], None, {"session_id": "s"}]})
    assert again.imported == 0
    assert [one["reason"] for one in again.skipped] == [
        "already exists (use overwrite)",
        "already exists (use overwrite)",
        "malformed record at index 2",
        "duplicate in payload",
    ]
    assert other.import_sessions(payload, overwrite=True).imported == 2
    assert other.import_sessions({"version": 2}).imported == 0


def test_limits(session_dir: str) -> None:
    """A limit shows the last messages, and cuts nothing off what is stored."""
    store = DefaultSessionStore(session_dir=session_dir, max_messages=3)
    for number in range(5):
        store.add_user_message("s", f"{number}")
    assert [one["content"] for one in store.get_chat_history("s")] == ["2", "3", "4"]
    assert len(store.store.get_chat_history("s")) == 5
    with pytest.raises(ValueError, match="Invalid retention 'x'"):
        DefaultSessionStore(session_dir=session_dir, retention="x")
    with pytest.raises(ConfigError, match="mirror"):
        DefaultSessionStore(session_dir=session_dir, mirror=object())


def test_arguments_that_cannot_be_right(store: DefaultSessionStore, session_dir: str) -> None:
    """They are refused with what they are and what to pass; a negative limit limits nothing."""
    with pytest.raises(ConfigError, match=r"two places for one store \(give one of them\)"):
        DefaultSessionStore(session_dir, store=store.store)
    with pytest.raises(InvalidArgument, match="a path, a URL or a SessionStore, not int"):
        DefaultSessionStore(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="active_window must be a whole number, not 'x'"):
        DefaultSessionStore(session_dir, active_window="x")  # type: ignore[arg-type]
    for wrong in (None, 5):
        with pytest.raises(InvalidArgument, match="messages must be a list of dicts, not"):
            store.set_chat_history("s", wrong)  # type: ignore[arg-type]
    for content in (object(), {1, 2}, {"a": [object()]}):
        with pytest.raises(InvalidMessage, match="content"):
            store.set_chat_history("s", [{"role": "user", "content": content}])
        with pytest.raises(InvalidMessage, match="content"):
            store.add_message("s", "user", content)
    assert not store.session_exists("s")
    assert store.set_chat_history("s", iter([{"role": "user", "content": "1"}]))  # type: ignore[arg-type]
    store.add_user_message("s", "2")
    unlimited = DefaultSessionStore(session_dir, max_messages=-1)
    assert [one["content"] for one in unlimited.get_chat_history("s")] == ["1", "2"]
    store.append_compaction_checkpoint("s", "So far")
    assert len(unlimited.get_working_history("s")) == 1
    store.add_user_message("s", "3")
    assert len(unlimited.get_working_history("s")) == 2


@pytest.mark.usefixtures("_default")
def test_the_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """`get_default_session_store` is one object on Holdfast's own default store."""
    monkeypatch.setenv("PRAISONAI_SESSION_RETENTION", "truncate")
    monkeypatch.setenv("PRAISONAI_SESSION_ACTIVE_WINDOW", "2")
    store = get_default_session_store()
    assert store is get_default_session_store()
    for text in "123":
        store.add_user_message("s", text)
    assert len(store.get_chat_history("s")) == 2
    assert len(holdfast.get_default_session_store().get_chat_history("s")) == 3


def test_what_keeps_nothing_open(session_dir: str, tmp_path: Path) -> None:
    """A store can be given by its URL or as an object, and closes only what it opened."""
    with holdfast.connect(tmp_path / "chats.db") as ours:
        with DefaultSessionStore(store=ours) as store:
            store.add_user_message("s", "Hello")
        assert ours.get_chat_history("s") == [{"role": "user", "content": "Hello"}]
    url = f"sqlite:///{tmp_path / 'chats.db'}"
    with DefaultSessionStore(url) as store:
        assert store.session_exists("s")
    assert store.store.closed
    assert store.flush_mirror() is True
    store.close_mirror()
    store.invalidate_cache()
