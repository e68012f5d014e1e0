"""Usage totals: what model calls used, summed over their records, each counted once."""

from __future__ import annotations

import contextlib
import json

import pytest

from holdfast.errors import SessionNotFound
from holdfast.model.usage import ModelUsage, UsageTotals
from holdfast.store.sync_store import SessionStore
from holdfast.store.sync_turn import Turn
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts
from holdfast.testing.conformance.tools import call
from holdfast.testing.conformance.turning import first_delta

ONE = ModelUsage(input_tokens=10, output_tokens=5, cached_tokens=2, requests=1)


def spend(store: SessionStore, session_id: str, model: str | None = "m", calls: int = 1) -> None:
    """Run a turn with so many model calls, each of which uses what `ONE` says."""
    with store.turn(session_id, "?") as turn:
        for _ in range(calls):
            turn.record_usage(model=model, input_tokens=10, output_tokens=5, cached_tokens=2)


def spend_and_fail(turn: Turn, tokens: int) -> None:
    """Run a turn that uses so many tokens and then fails."""
    with contextlib.suppress(RuntimeError), turn:
        turn.record_usage(input_tokens=tokens)
        raise RuntimeError


class Totals(Conformance):
    """Token usage is counted once, and whatever becomes of the history, it was used."""

    def test_nothing(self, store: SessionStore) -> None:
        """Where no model was called, nothing was used."""
        assert store.stats().usage == UsageTotals()
        store.add_user_message("s", "a")
        assert store.stats("s").usage == UsageTotals()
        with pytest.raises(SessionNotFound):
            store.stats("nobody")

    def test_sums(self, store: SessionStore) -> None:
        """All calls are summed, and those of each model; a call without one has an empty name."""
        spend(store, "s", "a", 2)
        spend(store, "s", "b")
        spend(store, "s", None)
        usage = store.stats("s").usage
        assert usage.models == {
            "": ONE,
            "a": ModelUsage(input_tokens=20, output_tokens=10, cached_tokens=4, requests=2),
            "b": ONE,
        }
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (40, 20, 8)
        assert (usage.requests, usage.unknown) == (4, 0)

    def test_of_all_sessions(self, store: SessionStore, subject: Subject) -> None:
        """Without a session it is the tenant's, and nobody else's."""
        for name in ("s", "t", "other"):
            spend(subject.open("other") if name == "other" else store, name)
        assert store.stats().usage.requests == 2
        assert store.stats("s").usage.models == {"m": ONE}
        assert subject.open("other").stats().usage.models == {"m": ONE}

    def test_unknown(self, store: SessionStore) -> None:
        """A call that ended without telling is a request, and is counted as unknown too."""
        with store.turn("s", "?") as turn:
            turn.record_usage(model="m", unknown=True)
            turn.record_usage(model="m", input_tokens=3)
        usage = store.stats("s").usage
        assert (usage.requests, usage.unknown, usage.input_tokens) == (2, 1, 3)

    def test_told_twice(self, store: SessionStore) -> None:
        """A call that is told twice counts once, as it was told first."""
        with store.turn("s", "?") as turn:
            turn.record_usage(input_tokens=1, call="c")
            turn.record_usage(input_tokens=2, call="c")
        assert (store.stats("s").usage.requests, store.stats("s").usage.input_tokens) == (1, 1)

    def test_again(self, store: SessionStore, subject: Subject) -> None:
        """A replayed turn uses nothing, and each attempt's calls count once."""
        spend_and_fail(store.turn("s", "?", key="k"), 1)
        gone = store.turn("s", "?", key="k", ttl=5)
        gone.__enter__()
        gone.record_usage(input_tokens=2)
        gone.add_message("assistant", None, tool_calls=call("c1")["tool_calls"])
        subject.script.advance(60_000)
        for _ in range(3):
            with store.turn("s", "?", key="k") as turn:
                if not turn.replayed:
                    turn.record_usage(input_tokens=4)
        usage = store.stats("s").usage
        assert (usage.input_tokens, usage.requests, usage.unknown) == (7, 3, 0)

    def test_crash(self, store: SessionStore, subject: Subject) -> None:
        """A worker that died while it streamed leaves one unknown call, recovered or not twice."""
        gone = store.turn("s", "?", ttl=5)
        gone.__enter__()
        gone.write("half")
        first_delta(store)
        subject.script.advance(60_000)
        assert [store.recover(), store.recover()] == [1, 0]
        usage = store.stats("s").usage
        assert (usage.requests, usage.unknown) == (1, 1)

    def test_with_the_next_commit(self, store: SessionStore, subject: Subject) -> None:
        """A call's tokens are in the log with the next message: a crash after it loses none."""
        gone = store.turn("s", "?", ttl=5)
        gone.__enter__()
        gone.record_usage(input_tokens=3)
        gone.add_message("assistant", "Let me see.", tool_calls=call("c1")["tool_calls"])
        assert store.stats("s").usage.input_tokens == 3
        subject.script.advance(60_000)
        store.recover()
        assert store.stats("s").usage.requests == 1

    def test_failure(self, store: SessionStore) -> None:
        """What a turn used that failed was used."""
        spend_and_fail(store.turn("s", "?"), 3)
        assert store.stats("s").usage.input_tokens == 3

    def test_purge(self, store: SessionStore) -> None:
        """Rewriting, clearing and purging take nothing away: it was used."""
        spend(store, "s")
        before = store.stats("s").usage
        store.set_chat_history("s", [{"role": "system", "content": "sum"}])
        store.clear_session("s")
        assert store.purge("s").generations == 2
        assert texts(store.get_chat_history("s")) == []
        assert store.stats("s").usage == before
        store.delete_session("s")
        assert store.stats().usage == UsageTotals()

    def test_fork(self, store: SessionStore) -> None:
        """A fork has used nothing yet; nor does a rewind count anything again."""
        spend(store, "s")
        store.fork_session("s", "t")
        store.rewind_session("s", -1)
        assert store.stats("t").usage == UsageTotals()
        assert store.stats().usage.models == {"m": ONE}

    def test_export(self, store: SessionStore, subject: Subject) -> None:
        """An imported session has used what the exported one had, whatever its id."""
        spend(store, "s", calls=3)
        other = subject.open("other")
        other.import_session(store.export_session("s"))
        assert other.stats("s").usage == store.stats("s").usage
        store.import_session(other.export_session("s"), "copy")
        assert store.stats().usage.requests == 6
        assert other.verify().problems == []

    def test_twice_in_a_log(self, store: SessionStore) -> None:
        """Where a log that came from elsewhere records a call twice, it counts once."""
        spend(store, "s", calls=2)
        *lines, closing = store.export_session("s").splitlines()
        header = json.loads(lines[0])
        again = next(json.loads(line) for line in lines if '"usage"' in line)
        again["revision"] = header["session"]["revision"] = header["session"]["revision"] + 1
        end = json.loads(closing)
        end["end"]["entries"] += 1
        text = [header, *map(json.loads, lines[1:]), again, end]
        store.import_session("\n".join(map(json.dumps, text)), "t")
        assert len(store.read_entries("t")) == len(store.read_entries("s")) + 1
        assert store.stats("t").usage == store.stats("s").usage
