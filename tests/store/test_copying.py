"""What may come between reading the past and writing it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.model.write import Write
from holdfast.rules.history import History
from holdfast.store.backend import Backend
from holdfast.store.copying import Copying
from holdfast.store.engine import Engine
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.store.urls import backend_for
from holdfast.store.writing import Writing

BEGUN = [{"role": "user", "content": text} for text in "abc"]


class Bench:
    """A store, and the writes that its methods would send."""

    def __init__(self, backend: Backend) -> None:
        backend.open()
        sources = Sources()
        self.engine = Engine(backend, sources)
        self.store = SessionStore(self.engine, "default", sources, 30)
        self.reading = Reading(backend, "default")
        self.writing = Writing(self.reading, "default", sources)
        self.copying = Copying(self.reading, "default", sources)
        self.store.add_messages("s", BEGUN)
        self.first = self.store.get_session("s").revision
        self.store.clear_session("s")
        self.store.add_messages("s", BEGUN)

    def send(self, write: Write) -> Commit:
        """Commit a write that was made a while ago."""
        outcome = self.engine.commit(write, 30)
        assert isinstance(outcome, Commit)
        return outcome

    def contents(self) -> list[object]:
        """What the current history says."""
        return [message["content"] for message in self.store.get_messages("s")]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A session with two generations."""
    url = {"memory": "memory://", "sqlite": str(tmp_path / "a.db")}.get(request.param, "")
    url = url or request.getfixturevalue("schema")
    bench = Bench(backend_for(url, durability="relaxed", timeout_s=30, sources=Sources()))
    yield bench
    bench.store.close()


WRITES: dict[str, Callable[[Bench], Write]] = {
    "rewind": lambda bench: bench.copying.rewind("s", bench.first),
    "rewind back": lambda bench: bench.copying.rewind("s", -1),
    "compact": lambda bench: bench.copying.compact("s", "sum", keep_last=1, base=None),
    "label": lambda bench: bench.writing.label("s", "x", bench.first),
    "purge": lambda bench: bench.writing.purge("s", bench.reading.row("s").base),
}


@pytest.mark.parametrize("make", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("recreated", [False, True])
def test_a_session_that_went(
    bench: Bench, make: Callable[[Bench], Write], *, recreated: bool
) -> None:
    """What was read of a session that is gone is written to none, nor to its successor."""
    write = make(bench)
    bench.store.delete_session("s")
    if recreated:
        bench.store.add_messages("s", BEGUN[:1])
        bench.store.set_chat_history("s", BEGUN)
    with pytest.raises((SessionNotFound, Conflict)) as caught:
        bench.send(write)
    assert isinstance(caught.value, SessionNotFound) or write.expected_revision is not None
    assert bench.store.session_exists("s") == recreated
    assert bench.contents() == (["a", "b", "c"] if recreated else [])
    assert not recreated or bench.store.get_session("s").labels == {}
    assert bench.store.verify().problems == []


def test_rewinding_back_expects_what_it_read(bench: Bench) -> None:
    """-n is refused if somebody wrote meanwhile; the store's method then counts anew."""
    write = bench.copying.rewind("s", -1)
    bench.store.add_user_message("s", "other")
    with pytest.raises(Conflict):
        bench.send(write)
    assert bench.contents() == ["a", "b", "c", "other"]
    bench.store.rewind_session("s", -1)
    assert bench.contents() == ["a", "b", "c"]


def test_rewinding_to_a_revision_is_exact(bench: Bench) -> None:
    """Whatever somebody wrote meanwhile is left behind, a rewrite too, and is counted."""
    write = bench.copying.rewind("s", bench.first)
    bench.store.add_user_message("s", "other")
    assert bench.send(write).removed == 4  # an earlier generation's messages have other lines
    assert bench.contents() == ["a", "b", "c"]
    write = bench.copying.rewind("s", bench.first)
    bench.store.set_chat_history("s", BEGUN[:1])
    assert bench.send(write).removed == 1
    assert bench.contents() == ["a", "b", "c"]


def test_compacting_keeps_what_comes_between(bench: Bench) -> None:
    """A message that is added while the summary is on its way follows it."""
    write = bench.copying.compact("s", "sum", keep_last=1, base=None)
    bench.store.add_user_message("s", "other")
    commit = bench.send(write)
    assert (commit.kept, commit.removed) == (1, 2)
    assert bench.contents() == ["sum", "c", "other"]
    with pytest.raises(Conflict):
        bench.send(write)


def test_purging_leaves_what_became_current(bench: Bench) -> None:
    """A rewrite that comes between finding the floor and raising it loses nothing."""
    write = bench.writing.purge("s", bench.reading.row("s").base)
    history: History = bench.store.get_chat_history("s")
    bench.store.set_chat_history("s", history[1:])
    bench.engine.commit(write, 30)
    assert bench.contents() == ["b", "c"]
    assert bench.store.get_chat_history("s", at=history.revision) == history
    assert bench.store.purge("s").generations == 1
    assert bench.store.verify().problems == []
