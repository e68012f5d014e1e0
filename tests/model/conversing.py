"""Logs made of everything that happens to conversations, and what providers think of them."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.errors import Conflict, InvalidArgument, Purged, SessionBusy
from holdfast.rules.history import History
from holdfast.store.backend import Backend
from holdfast.store.engine import Engine
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance import Script
from holdfast.testing.providers import check_anthropic, check_openai
from tests.model.driving import Driven, drive

CALL_IDS = ("c1", "c2", "f.x:0")
TTL_S = 5.0
LAPSE_MS = 60_000

texts = st.sampled_from(["a", "", " ", "b "])
ids = st.sampled_from(CALL_IDS)
many_ids = st.lists(ids, min_size=1, max_size=2, unique=True)
numbers = st.integers(0, 30)


def calling(call_ids: list[str], text: str | None = None) -> dict[str, Any]:
    """An assistant's message that calls tools."""
    function = {"name": "files.read", "arguments": "{}"}
    calls = [{"id": i, "type": "function", "function": function} for i in call_ids]
    return {"role": "assistant", "content": text, "tool_calls": calls}


messages = st.one_of(
    st.builds(lambda text: {"role": "user", "content": text}, texts),
    st.builds(lambda text: {"role": "assistant", "content": text}, texts),
    st.just({"role": "system", "content": "be brief"}),
    st.builds(calling, many_ids, st.none() | texts),
    st.builds(lambda i: {"role": "tool", "content": "1", "tool_call_id": i}, ids),
)


def accepted(history: History) -> None:
    """Check that both providers take a history."""
    check_openai(history.for_openai())
    check_anthropic(history.for_anthropic().messages)


class Conversing(RuleBasedStateMachine):
    """One session and its forks; at most one worker that is alive, and others that are gone."""

    def backend(self, sources: Sources) -> Backend:
        """A backend on this example's data."""
        raise NotImplementedError

    sessions: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.closing = contextlib.ExitStack()
        backend = self.backend(self.script.sources())
        backend.open()
        self.engine = Engine(backend, self.script.sources())
        self.closing.callback(self.engine.close)
        self.store = SessionStore(self.engine, "default", self.script.sources(), 30)
        self.names = ["s"]
        self.name = "s"
        self.live: Driven | None = None
        self.turns: list[str] = []
        self.store.create_session("s")

    def teardown(self) -> None:
        """Look at every history that there ever was, then close."""
        try:
            for name in self.names:
                self.past(name)
        finally:
            self.closing.close()

    def past(self, name: str) -> None:
        """Check the history at every revision, at every turn, and so many back."""
        entries = self.store.read_entries(name)
        points: list[int | str] = [entry.revision for entry in entries]
        points += [*self.turns, *range(-12, 0)]
        for at in points:
            for limit in (None, 1, 2, 3, 5):
                with contextlib.suppress(Purged, InvalidArgument):
                    accepted(self.store.get_chat_history(name, limit, at=at))
        assert self.store.verify().problems == []

    @invariant()
    def histories_are_accepted(self) -> None:
        """The history now, with any limit, and what the turn that runs is to answer."""
        for name in self.names:
            whole = self.store.get_chat_history(name)
            accepted(whole)
            for limit in range(1, len(whole)):
                accepted(self.store.get_chat_history(name, limit))
        if self.live is not None:
            accepted(self.live.turn.history)
            check_openai(self.live.turn.messages)

    # Turns

    @precondition(lambda self: self.live is None)
    @rule(
        key=st.none() | st.sampled_from(["k1", "k2"]),
        prompt=st.none() | texts | st.lists(messages, min_size=1, max_size=2),
    )
    def open(self, key: str | None, prompt: Any) -> None:
        """Open a turn where the last worker is gone, if its lease ran out."""
        turn = self.store.turn(self.name, prompt, key=key, on_busy="reject", ttl=TTL_S)
        try:
            driven = drive(turn, self.store)
        except (SessionBusy, Purged):
            return
        self.turns.append(turn.id)
        accepted(turn.history)
        if turn.replayed:
            check_openai(turn.messages)
            turn.__exit__(None, None, None)
        else:
            self.live = driven

    @precondition(lambda self: self.live is not None)
    @rule(text=texts, flush=st.booleans())
    def write(self, *, text: str, flush: bool) -> None:
        """Stream some text."""
        assert self.live is not None
        self.live.turn.write(text)
        if flush:
            self.live.flush()

    @precondition(lambda self: self.live is not None)
    @rule(message=messages)
    def say(self, message: dict[str, Any]) -> None:
        """Add a message inside the turn."""
        assert self.live is not None
        self.live.turn.add_message(**message)

    @precondition(lambda self: self.live is not None)
    @rule(call_ids=many_ids, answered=st.booleans(), text=st.none() | texts)
    def use_tools(self, *, call_ids: list[str], answered: bool, text: str | None) -> None:
        """Call tools and add their results, or die before."""
        assert self.live is not None
        self.live.turn.add_message(**calling(call_ids, text))
        if answered:
            for id_ in reversed(call_ids):
                self.live.turn.add_message("tool", "found", tool_call_id=id_)

    @precondition(lambda self: self.live is not None)
    @rule(how=st.sampled_from(["complete", "fail", "cancel", "crash"]))
    def end(self, how: str) -> None:
        """Leave the turn in one of the ways that there are."""
        assert self.live is not None
        turn, self.live = self.live.turn, None
        if how == "complete":
            turn.__exit__(None, None, None)
        elif how != "crash":
            error = RuntimeError("boom") if how == "fail" else KeyboardInterrupt()
            turn.__exit__(type(error), error, None)

    @precondition(lambda self: self.live is None)
    @rule(recover=st.booleans())
    def lapse(self, *, recover: bool) -> None:
        """Let the leases of those who are gone run out; perhaps somebody closes their turns."""
        self.script.advance(LAPSE_MS)
        if recover:
            self.store.recover()

    # Everything else

    @rule(message=messages)
    def outside(self, message: dict[str, Any]) -> None:
        """Add a message outside of any turn."""
        self.store.add_message(self.name, **message)

    @rule(
        how=st.sampled_from(["clear", "rewind", "rewind", "compact", "cut", "replace", "purge"]),
        number=numbers,
        first=st.integers(0, 3),
        meanwhile=st.booleans(),
    )
    def rewrite(self, *, how: str, number: int, first: int, meanwhile: bool) -> None:
        """Begin another history, in one of the ways that there are; one rule, or few logs grow."""
        store, name = self.store, self.name
        history = store.get_chat_history(name)
        if meanwhile:
            store.add_user_message(name, "meanwhile")
        with contextlib.suppress(Conflict, Purged, InvalidArgument):
            if how == "clear":
                store.clear_session(name)
            elif how == "rewind":
                store.rewind_session(name, self.point(number))
            elif how == "compact":
                store.compact_session(name, "sum", keep_last=number % 8, base=history)
            elif how == "cut":
                store.set_chat_history(name, history[first:])
            elif how == "replace":
                store.set_chat_history(name, list(history[: len(history) - first]))
            else:
                store.purge(name)

    @precondition(lambda self: len(self.names) < self.sessions and self.live is None)
    @rule(number=numbers, imported=st.booleans())
    def copy(self, *, number: int, imported: bool) -> None:
        """Go on with a fork of any point, or with an imported copy."""
        name = f"copy{len(self.names)}"
        try:
            if imported:
                self.store.import_session(self.store.export_session(self.name), name)
            else:
                self.store.fork_session(self.name, name, at=self.point(number))
        except (Purged, InvalidArgument):
            return
        self.names.append(name)
        self.name = name

    def point(self, number: int) -> int | str:
        """Any point that the session may have."""
        revisions = [entry.revision for entry in self.store.read_entries(self.name)]
        points: list[int | str] = [-1, -2, -3, *self.turns, *revisions]
        return points[number % len(points)]
