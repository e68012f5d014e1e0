"""Sessions whose rows somebody else holds: a transaction in psql, or a worker that hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import psycopg
import pytest

import holdfast
from holdfast import SessionStore
from holdfast.errors import OutcomeUnknown, Unavailable
from holdfast.store.engine import Engine
from holdfast.store.postgres import writer
from holdfast.store.postgres.connections import parse_address
from holdfast.store.postgres.diagnosis import diagnose
from holdfast.store.sources import Sources
from holdfast.testing.postgres import Cut, CuttingProxy, Server, once
from tests.postgres.test_locks import blocked
from tests.stores import schema_of, server_of
from tests.turns.stage import wait_for

LONG_S = 60

WRITES: dict[str, Callable[[SessionStore], object]] = {
    "plain": lambda store: store.add_user_message("held", "never"),
    "decided": lambda store: store.clear_session("held"),
}


class Clock:
    """The machine's time, which a test sets forward: nobody has to wait for a deadline."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return time.monotonic() + self._ahead_s

    def set_forward(self, seconds: float) -> None:
        """Let so much time have passed."""
        self._ahead_s += seconds


@contextmanager
def held(url: str, *names: str) -> Iterator[None]:
    """Hold sessions of a store, as a transaction does that somebody forgot in psql."""
    with psycopg.connect(server_of(url)) as holder:
        found = holder.execute(
            f"SELECT id FROM {schema_of(url)}.sessions WHERE id = ANY (%s) FOR UPDATE".encode(),
            (list(names),),
        ).fetchall()
        assert len(found) == len(names)
        yield
        holder.rollback()


def contents(store: SessionStore, name: str) -> list[object]:
    """Read what was said."""
    return [message["content"] for message in store.get_chat_history(name)]


def fill(store: SessionStore) -> None:
    """Make the sessions: batches lock them in this order."""
    for name in ("a", "held", "z"):
        store.add_user_message(name, "first")


def write(store: SessionStore, name: str, text: str) -> None:
    """Write what the server decides, and what the rules decide."""
    store.add_user_message(name, text)
    store.update_session_metadata(name, said=text)


def test_others_go_on(schema: str) -> None:
    """While somebody holds a session, callers of it are refused for certain, and others go on."""
    clock = Clock()
    with (
        mock.patch.object(writer, "MOST_WAIT_S", 0.1),
        holdfast.connect(schema, timeout=LONG_S, sources=Sources(monotonic_s=clock)) as store,
        ThreadPoolExecutor(4) as pool,
    ):
        fill(store)
        with held(schema, "held"):
            waiting: list[Future[object]] = [
                pool.submit(store.add_user_message, "held", "one"),
                pool.submit(store.clear_session, "held"),
                pool.submit(store.add_user_message, "held", "two"),
            ]
            wait_for(lambda: blocked(schema) == 1, "waiting for the row")
            for number in range(3):
                write(store, "a", f"a{number}")
                write(store, "z", f"z{number}")
                write(store, f"new{number}", "new")
            clock.set_forward(LONG_S)
            for each in waiting:
                error = each.exception(2 * LONG_S)
                assert isinstance(error, Unavailable)
                assert error.code in ("contended", "deadline")
            wait_for(lambda: blocked(schema) == 0, "leaving nothing behind at the server")
        store.add_user_message("held", "after")
        assert contents(store, "held") == ["first", "after"]
        for name in ("a", "z"):
            assert contents(store, name) == ["first", *(f"{name}{n}" for n in range(3))]
        assert store.verify().problems == []


@pytest.mark.parametrize("kind", WRITES)
def test_a_lone_caller_is_told_in_time(schema: str, kind: str) -> None:
    """A caller with nobody beside it is told that nothing was written, and nothing will be."""
    clock = Clock()
    put_back = Engine._put_back
    with (
        mock.patch.object(writer, "MOST_WAIT_S", 0.1),
        holdfast.connect(schema, timeout=LONG_S, sources=Sources(monotonic_s=clock)) as store,
        mock.patch.object(Engine, "_put_back", autospec=True, side_effect=put_back) as tried,
        ThreadPoolExecutor(1) as pool,
    ):
        fill(store)
        with held(schema, "held"):
            waiting = pool.submit(WRITES[kind], store)
            wait_for(lambda: tried.call_count > 1, "trying again")
            clock.set_forward(LONG_S)
            with pytest.raises(Unavailable, match="'held'") as raised:
                waiting.result(LONG_S)
            assert raised.value.code == "contended"
            assert "doctor" in raised.value.hint
            assert blocked(schema) == 0
        assert contents(store, "held") == ["first"]


def test_what_waits_is_done_once(schema: str) -> None:
    """Writes that waited for somebody are done, each once, when he lets go in time."""
    texts = [f"said {number}" for number in range(8)]
    put_back = Engine._put_back
    with (
        holdfast.connect(schema, timeout=LONG_S) as store,
        mock.patch.object(Engine, "_put_back", autospec=True, side_effect=put_back) as tried,
        ThreadPoolExecutor(len(texts)) as pool,
    ):
        fill(store)
        with held(schema, "held", "z"):
            names = ["held", "z"] * (len(texts) // 2)
            waiting = [
                pool.submit(store.add_user_message, name, text)
                for name, text in zip(names, texts, strict=True)
            ]
            wait_for(lambda: tried.call_count > 2, "trying again")
            assert not any(each.done() for each in waiting)
        assert not any(each.result(LONG_S).replayed for each in waiting)
        said = contents(store, "held") + contents(store, "z")
        assert sorted(map(str, said)) == sorted([*texts, "first", "first"])


def test_doctor_names_who_holds_a_session(schema: str) -> None:
    """`doctor` says who keeps writes waiting, although these begin to wait again and again."""

    def found() -> str:
        findings = diagnose(parse_address(schema, 30), "default", "a test")
        (locks,) = [each for each in findings if each.code == "locks"]
        return locks.what if locks.level == "warning" else ""

    with holdfast.connect(schema, timeout=LONG_S) as store, ThreadPoolExecutor(1) as pool:
        fill(store)
        with held(schema, "held"):
            waiting = pool.submit(store.add_user_message, "held", "later")
            wait_for(lambda: "keeps 1 waiting" in found(), "a finding")
        assert not waiting.result(LONG_S).replayed


def test_a_turn_outlasts_somebody_who_holds_its_session(schema: str) -> None:
    """Streamed text, and the end of its turn, wait for a session that is held for a while."""
    put_back = Engine._put_back
    with (
        holdfast.connect(schema) as store,
        mock.patch.object(Engine, "_put_back", autospec=True, side_effect=put_back) as tried,
    ):
        with store.turn("held", "Tell me") as turn, held(schema, "held"):
            turn.write("an answer")
            wait_for(lambda: tried.call_count > 1, "trying again")
            turn.write(", and more")
        assert contents(store, "held") == ["Tell me", "an answer, and more"]


def test_a_cancelled_task_leaves_nothing_behind(schema: str) -> None:
    """What a task wanted to write into a held session before it was cancelled is never written."""

    async def run() -> None:
        async with holdfast.connect_async(schema, timeout=LONG_S) as store:
            waiting = asyncio.create_task(store.add_user_message("held", "cancelled"))
            await asyncio.to_thread(wait_for, lambda: blocked(schema) == 1, "waiting for the row")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    with holdfast.connect(schema) as store:
        fill(store)
        with held(schema, "held"):
            asyncio.run(run())
        store.add_user_message("held", "after")
        assert contents(store, "held") == ["first", "after"]


@pytest.mark.parametrize("timeout_s", [1, LONG_S])
def test_a_cut_while_somebody_holds_the_session(
    server: Server, schema: str, timeout_s: int
) -> None:
    """A write that was sent before the connection broke is in doubt while it may still be done."""
    in_time = timeout_s == LONG_S
    with holdfast.connect(schema) as patient:
        fill(patient)
    with CuttingProxy(server.port) as proxy:
        through = f"{proxy.url_for(server)}?schema={schema_of(schema)}"
        with (
            holdfast.connect(through, timeout=timeout_s) as store,
            ThreadPoolExecutor(1) as pool,
        ):
            with held(schema, "held"):
                proxy.choose = once(Cut.AFTER, containing="append_v1")
                waiting = pool.submit(store.add_user_message, "held", "once")
                wait_for(lambda: sum(proxy.cuts.values()) == 1, "the cut")
                if not in_time:
                    assert isinstance(waiting.exception(LONG_S), OutcomeUnknown)
            if in_time:
                assert not waiting.result(LONG_S).replayed
                assert contents(store, "held") == ["first", "once"]


def test_a_lock_on_a_whole_table(schema: str) -> None:
    """Whoever locks a table holds up all sessions; then all goes on, and nothing is done twice."""
    put_back = Engine._put_back
    with (
        holdfast.connect(schema, timeout=LONG_S) as store,
        mock.patch.object(Engine, "_put_back", autospec=True, side_effect=put_back) as tried,
        ThreadPoolExecutor(12) as pool,
    ):
        fill(store)
        with psycopg.connect(server_of(schema)) as holder:
            holder.execute(f"LOCK {schema_of(schema)}.messages".encode())
            waiting = [pool.submit(store.add_user_message, f"s{n}", "x") for n in range(12)]
            wait_for(lambda: tried.call_count > 1, "trying again")
        for each in waiting:
            assert not each.result(LONG_S).replayed
        assert all(contents(store, f"s{n}") == ["x"] for n in range(12))
