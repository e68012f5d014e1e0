"""Connections that are cut, above all between a commit and its answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest

import holdfast
from holdfast.errors import ConfigError, Conflict, HoldfastError, OutcomeUnknown, Unavailable
from holdfast.model.entry import MessageEntry
from holdfast.testing.postgres import Cut, CuttingProxy, Request, Server, at_random, once
from tests.turns.stage import wait_for

CUTS = 1_000
WORKERS = 6
RATE = 0.25
PATIENT_S = 120
"""A write on a new connection needs some five requests in a row: three in four of these are cut.

So in the 30 seconds that a call has by default, one write in some thousands would not come through.
"""


@pytest.fixture
def proxy(server: Server) -> Iterator[CuttingProxy]:
    """A way to the shared server that can be cut."""
    with CuttingProxy(server.port) as proxy:
        yield proxy


class _Worker(threading.Thread):
    """Adds, saves and runs turns through a store of its own, and notes what was acknowledged."""

    def __init__(self, store: holdfast.SessionStore, number: int, enough: threading.Event) -> None:
        super().__init__(name=f"worker{number}")
        self.acknowledged: Counter[str] = Counter()
        self.usage = 0
        self.failure: BaseException | None = None
        self._store = store
        self._number = number
        self._enough = enough

    def run(self) -> None:
        """Work until there were enough cuts."""
        try:
            with self._store as store:
                step = 0
                while not self._enough.is_set():
                    step += 1
                    self._step(store, step)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.failure = error

    def _step(self, store: holdfast.SessionStore, step: int) -> None:
        text = f"{self.name}-{step}"
        match step % 5:
            case 0:
                history = store.get_chat_history("saved")
                history.append({"role": "user", "content": text})
                store.set_chat_history("saved", history)
            case 1:
                assert not store.add_user_message("added", text).replayed
            case 2:
                commit = store.add_messages("added", [_said(text)], key=f"{text}-key")
                assert not commit.replayed, "this call was made once"
            case 3:
                store.edit_history(
                    "saved", lambda old: [{**m, "metadata": {}} for m in old] + [_said(text)]
                )
            case _:
                self._turn(store, text)
        self.acknowledged[text] += 1

    def _turn(self, store: holdfast.SessionStore, text: str) -> None:
        with store.turn(f"turns{self._number}", text, key=f"{text}-turn") as turn:
            assert not turn.replayed
            turn.write(f"answer to {text}")
            turn.record_usage(input_tokens=1)
            self.usage += 1


def _said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.timeout(240)
def test_a_thousand_cuts(server: Server, proxy: CuttingProxy) -> None:
    """Whenever a connection is cut, each write happens once, and no caller hears of it."""
    schema = "?schema=cuts"
    through = f"{proxy.url_for(server)}{schema}"
    enough = threading.Event()
    workers = [
        _Worker(holdfast.connect(through, timeout=PATIENT_S), number, enough)
        for number in range(WORKERS)
    ]
    proxy.choose = at_random(7, rate=RATE)
    for worker in workers:
        worker.start()
    while sum(proxy.cuts.values()) < CUTS and all(worker.is_alive() for worker in workers):
        enough.wait(0.05)
    enough.set()
    for worker in workers:
        worker.join()
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure
    assert sum(proxy.cuts.values()) >= CUTS
    assert proxy.cuts[Cut.AFTER] > CUTS / 10, "the ambiguous ones are what this is about"
    _check(f"{server.url}{schema}", workers)


def _check(url: str, workers: list[_Worker]) -> None:
    found: Counter[str] = Counter()
    with holdfast.connect(url) as store:
        for info in store.list_sessions():
            history = store.get_chat_history(info.id)
            found.update(m["content"] for m in history if m["role"] == "user")
        usage = store.stats().usage
        assert usage is not None
        assert usage.requests == sum(worker.usage for worker in workers)
        assert store.verify().problems == []
    acknowledged = sum((worker.acknowledged for worker in workers), Counter[str]())
    assert found == acknowledged


@pytest.mark.parametrize("cut", list(Cut))
@pytest.mark.parametrize("statement", ["append_v1", "commit_v2", "put_sessions", "FOR UPDATE"])
def test_one_cut(server: Server, proxy: CuttingProxy, cut: Cut, statement: str) -> None:
    """A cut at any moment of either way to commit leaves each write once, and its own answer."""
    with holdfast.connect(f"{proxy.url_for(server)}?schema=one_cut") as store:
        store.delete_session("s")
        store.add_user_message("s", "before")
        if statement == "put_sessions":  # which goes together with COMMIT
            statement = 'INSERT INTO "one_cut".sessions'
        chosen: list[Request] = []
        choose = once(cut, containing=statement)

        def note(request: Request) -> Cut | None:
            found = choose(request)
            chosen.extend([request] * (found is not None))
            return found

        proxy.choose = note
        added = store.add_user_message("s", "added")
        with store.turn("s", "prompt", key="t") as turn:
            assert not turn.replayed
            turn.write("answer")
        assert store.clear_session("s")
        again = store.add_user_message("s", "after", key="k")
        assert not again.replayed
        assert store.delete_session("gone").existed is False
        entries = store.read_entries("s")
        texts = [m["content"] for e in entries if isinstance(e, MessageEntry) for m in e.messages]
        assert texts == ["before", "added", "prompt", "answer", "after"]
        assert added.revision in {entry.revision for entry in entries}
        assert store.delete_session("s").existed
        assert len(chosen) == 1
        assert ("COMMIT" in chosen[0].statements) == ("sessions" in statement)


def _before_it_is_sent_again(
    proxy: CuttingProxy, cut: Callable[[Request], Cut | None], do: Callable[[], None]
) -> threading.Event:
    """Do something between a cut and the decision about what is sent again; tell if it was done."""
    lost, done = threading.Event(), threading.Event()

    def choose(request: Request) -> Cut | None:
        again = any("FOR UPDATE" in statement for statement in request.statements)
        if again and lost.is_set() and not done.is_set():
            done.set()
            do()
        chosen = cut(request)
        if chosen is not None:
            lost.set()
        return chosen

    proxy.choose = choose
    return done


def test_a_deletion_that_nobody_answered(server: Server, proxy: CuttingProxy) -> None:
    """A deletion that is sent again does not take what somebody made there in between."""
    with (
        holdfast.connect(f"{server.url}?schema=between") as other,
        holdfast.connect(f"{proxy.url_for(server)}?schema=between") as store,
    ):
        store.add_user_message("s", "old")
        cut = once(Cut.AFTER, containing='DELETE FROM "between".sessions')

        def make_anew() -> None:
            while other.session_exists("s"):
                time.sleep(0.001)
            other.add_user_message("s", "new")

        made = _before_it_is_sent_again(proxy, cut, make_anew)
        assert store.delete_session("s").existed
        proxy.choose = lambda _: None
        assert made.is_set()
        assert [m["content"] for m in other.get_chat_history("s")] == ["new"]


def test_a_refusal_that_nobody_answered(server: Server, proxy: CuttingProxy) -> None:
    """What was refused in a commit that is there stays refused, whatever others did in between."""
    with (
        holdfast.connect(f"{server.url}?schema=refused") as other,
        holdfast.connect(f"{proxy.url_for(server)}?schema=refused") as store,
    ):
        store.add_user_message("cleared", "old")
        store.add_user_message("refused", "old")
        cut = once(Cut.AFTER, containing='INSERT INTO "refused".sessions')

        def delete() -> None:
            while other.get_chat_history("cleared"):
                time.sleep(0.001)
            other.delete_session("refused")

        deleted = _before_it_is_sent_again(proxy, cut, delete)
        writes = [
            store._writing.add("refused", [_said("new")], path="m", expected_revision=0),
            store._writing.clear("cleared"),
        ]
        outcomes = store._shell._engine.commit_together(writes, 30)
        proxy.choose = lambda _: None
        assert deleted.is_set()
        assert isinstance(outcomes[0], Conflict)
        assert not isinstance(outcomes[1], HoldfastError)
        assert not other.session_exists("refused")


def test_a_schema_that_lacks_something(database: str) -> None:
    """A function that is gone is named, rather than done without."""
    with holdfast.connect(database) as store:
        store.add_user_message("s", "hello")
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP FUNCTION holdfast.append_v1")
        with pytest.raises(ConfigError) as caught:
            store.add_user_message("s", "again")
        assert caught.value.code == "damaged_schema"


def test_no_answer_for_too_long(server: Server, proxy: CuttingProxy) -> None:
    """A commit that was sent, and cannot be asked about, is unknown; its key settles it later."""
    with (
        holdfast.connect(f"{server.url}?schema=asked") as other,
        holdfast.connect(f"{proxy.url_for(server)}?schema=asked", timeout=2) as store,
    ):
        store.add_user_message("s", "before")
        proxy.choose = lambda request: Cut.AFTER if request.statements else None
        with pytest.raises(OutcomeUnknown, match="same key="):
            store.add_user_message("s", "asked", key="k")
        proxy.choose = lambda _: None
        wait_for(lambda: len(other.get_chat_history("s")) == 2, "what the server was sent")
        assert store.add_user_message("s", "asked", key="k").replayed
        assert [m["content"] for m in store.get_chat_history("s")] == ["before", "asked"]


def test_silence(server: Server, proxy: CuttingProxy) -> None:
    """A server that takes everything and answers nothing ends a call at its deadline."""
    with holdfast.connect(f"{proxy.url_for(server)}?schema=silent", timeout=2) as store:
        store.add_user_message("s", "before")
        proxy.hold()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            store.add_user_message("s", "held", key="k")
        with pytest.raises(Unavailable):
            store.get_chat_history("s")
        proxy.release()
        store.add_user_message("s", "held", key="k")
        assert [m["content"] for m in store.get_chat_history("s")] == ["before", "held"]


def test_nobody_there(server: Server, proxy: CuttingProxy) -> None:
    """A server that cannot be reached is `Unavailable`: nothing was sent; and it is used again."""
    url = f"{proxy.url_for(server)}?schema=away"
    with holdfast.connect(url, timeout=2) as store:
        store.add_user_message("s", "before")
        proxy.choose = at_random(1, rate=1, cuts=[Cut.BEFORE])
        proxy.refuse()
        with pytest.raises((Unavailable, OutcomeUnknown)):
            store.add_user_message("s", "first")
        with pytest.raises(Unavailable):
            store.add_user_message("s", "second")
        with pytest.raises(Unavailable):
            store.get_chat_history("s")
        proxy.choose = lambda _: None
        proxy.accept()
        store.add_user_message("s", "after")
        found = [m["content"] for m in store.get_chat_history("s")]
        assert found[-1] == "after"
        assert "second" not in found
