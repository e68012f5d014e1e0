"""Messages of many sessions wait together for their place, and nobody can tell."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from operator import sub
from pathlib import Path

import pytest

import holdfast
from holdfast import SessionStore
from holdfast.errors import CorruptEntry, Unavailable
from holdfast.store.backend import Backend
from holdfast.store.sources import Sources
from holdfast.store.sqlite import arrivals, fulltext, migrations
from holdfast.store.sqlite.queries import bulk
from holdfast.store.urls import backend_for
from holdfast.testing import conformance
from tests.started import started
from tests.store.opening import FailingConnection, failing_connection, sqlite_store

NAMES = [f"session-{number}" for number in range(8)]


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[conformance.Subject]:
    """Synchronous stores on a file in which every message is an arrival first."""
    monkeypatch.setattr(arrivals, "FEWEST_SESSIONS", 1)
    monkeypatch.setattr(arrivals, "MOST_ENTRIES", 3)
    monkeypatch.setattr(arrivals, "LEAVING", 2)
    monkeypatch.setattr(arrivals, "TOGETHER", 1)

    def opened(sources: Sources) -> Backend:
        path = str(tmp_path / "conformance.db")
        return backend_for(path, durability="full", timeout_s=30, sources=sources)

    with conformance.Subject(opened, "sync") as subject:
        yield subject


ELSEWHERE = (
    conformance.BadInput,
    conformance.Endurance,
    conformance.Resuming,
    conformance.Sessions,
    conformance.Sharing,
    conformance.Tenants,
    conformance.Tools,
    conformance.Totals,
)
"""What does not ask where messages stand, and is promised of every backend by the whole suite."""

for _promises in [each for each in conformance.SUITE if each not in ELSEWHERE]:
    _name = f"Test{_promises.__name__}"
    globals()[_name] = type(_name, (_promises,), {"__doc__": _promises.__doc__})


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message is an arrival, and none is put in its place for being one too many."""
    monkeypatch.setattr(arrivals, "FEWEST_SESSIONS", 1)


@pytest.fixture
def short(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message is an arrival, and with two more than three the first leave the queue."""
    monkeypatch.setattr(arrivals, "MOST_ENTRIES", 3)
    monkeypatch.setattr(arrivals, "LEAVING", 2)
    monkeypatch.setattr(arrivals, "TOGETHER", 1)


UNSETTLED = "arrivals WHERE revision NOT IN (SELECT revision FROM messages)"
ALL = "(SELECT * FROM messages UNION SELECT * FROM arrivals)"


def places(path: Path) -> tuple[int, int]:
    """How many entries are in their place, and how many have only arrived."""
    return count(path, "messages"), count(path, UNSETTLED)


def copies(path: Path) -> int:
    """How many entries stand in the queue and in their place."""
    return count(path, "arrivals") - count(path, UNSETTLED)


def count(path: Path, table: str) -> int:
    """How many rows there are."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found)


def empty_log(path: Path) -> None:
    """Fold the write-ahead log into the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def log_size(path: Path) -> int:
    """The bytes of the write-ahead log."""
    return Path(f"{path}-wal").stat().st_size


def texts(store: SessionStore, session_id: str, last: int | None = None) -> list[object]:
    """What a session's messages say, all or the last."""
    return [message["content"] for message in store.get_chat_history(session_id, last)]


def test_a_batch_of_many_sessions_changes_few_pages(path: Path) -> None:
    """Turns of 64 sessions at once write less than half a page each, and are all there."""
    turn = [{"role": "user", "content": "x" * 350}, {"role": "assistant", "content": "y" * 350}]

    async def talk() -> int:
        async with holdfast.connect_async(path) as store:
            for _ in range(4):
                await asyncio.gather(*(store.add_messages(f"s{n}", turn) for n in range(64)))
            empty_log(path)
            await asyncio.gather(*(store.add_messages(f"s{n}", turn) for n in range(64)))
            return log_size(path)

    written = asyncio.run(talk())
    assert places(path)[1] > 0
    assert written < 64 * 4096 / 2
    with holdfast.connect(path) as store:
        assert all(store.get_session(f"s{n}").message_count == 10 for n in range(64))
        assert store.verify()


def test_few_sessions_are_put_in_their_place(path: Path) -> None:
    """What a caller writes alone stands in its place at once, after all that came before it."""

    async def talk() -> None:
        async with holdfast.connect_async(path) as store:
            await asyncio.gather(*(store.add_user_message(name, "many") for name in NAMES))

    asyncio.run(talk())
    assert places(path)[1] > 0
    with holdfast.connect(path) as store:
        store.add_user_message(NAMES[0], "alone")
        assert places(path) == (2, len(NAMES) - 1)
        assert texts(store, NAMES[0]) == ["many", "alone"]


def test_large_messages_are_put_in_their_place(path: Path, always: None) -> None:
    """A message that fills pages of its own is not written twice."""
    with holdfast.connect(path) as store:
        store.add_user_message("small", "x")
        assert places(path) == (0, 1)
        store.add_user_message("large", "x" * arrivals.LARGE_BYTES)
        assert places(path) == (1, 1)


def test_there_are_never_many(path: Path, always: None) -> None:
    """However many arrive, a few hundred are in the queue, and no batch puts all in their place."""
    sessions, most = 40, arrivals.MOST_ENTRIES + arrivals.LEAVING
    with holdfast.connect(path, durability="relaxed") as store:
        placed = [0]
        for number in range(2 * most):
            store.add_user_message(f"s{number % sessions}", f"{number}")
            placed.append(count(path, "messages"))
        assert count(path, "arrivals") < most
        together = arrivals.TOGETHER * most // sessions
        assert 0 < max(map(sub, placed[1:], placed)) <= arrivals.LEAVING + together
        for number in range(sessions):
            own = range(number, 2 * most, sessions)
            assert texts(store, f"s{number}") == [f"{each}" for each in own]
        assert store.stats().entries == 2 * most
        assert store.verify()


def test_whoever_leaves_takes_its_session_along(path: Path, short: None) -> None:
    """What else has arrived of its session is put in its place with it, and is read once."""
    with holdfast.connect(path) as store:
        for name in ("a", "b", "a", "b"):
            store.add_user_message(name, name)
        assert (places(path), copies(path)) == ((0, 4), 0)
        store.add_user_message("a", "last")
        assert (places(path), copies(path)) == ((3, 2), 2)
        assert texts(store, "a") == ["a", "a", "last"]
        assert texts(store, "a", 2) == ["a", "last"]
        assert texts(store, "b") == ["b", "b"]
        assert len(store.read_entries("a")) == 3
        assert store.stats().entries == 5
        assert [hit.session_id for hit in store.search("last")] == ["a"]


def clear(store: SessionStore) -> None:
    """Forget for good what a session said."""
    store.clear_session("s")
    store.purge("s")


def delete(store: SessionStore) -> None:
    """Forget that there was a session."""
    store.delete_session("s")


@pytest.mark.parametrize("change", [clear, delete])
def test_a_copy_is_never_the_original(
    path: Path, short: None, monkeypatch: pytest.MonkeyPatch, change: Callable[[SessionStore], None]
) -> None:
    """What is purged or deleted does not come back when its copy would leave the queue."""
    with holdfast.connect(path) as store:
        for name in ("other", "s", "s"):
            store.add_user_message(name, "said")
        with monkeypatch.context() as patch:
            patch.setattr(arrivals, "FEWEST_SESSIONS", 100)
            store.add_user_message("s", "said")
        assert (places(path), copies(path)) == ((3, 1), 2)
        change(store)
        assert copies(path) == 0
        left = count(path, f"{ALL} WHERE payload LIKE '%said%'")
        for number in range(20):
            store.add_user_message(f"new {number % 4}", "more")
        assert count(path, f"{ALL} WHERE payload LIKE '%said%'") == left == 1
        assert store.verify()


def test_reads_take_both(path: Path, always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories of any extent and revision hold what is in its place and then what arrived."""
    with holdfast.connect(path) as store:
        said = [f"{number}" for number in range(6)]
        commits = [store.add_user_message("s", text) for text in said[:3]]
        with monkeypatch.context() as patch:
            patch.setattr(arrivals, "FEWEST_SESSIONS", 100)
            commits.append(store.add_user_message("s", said[3]))
        commits += [store.add_user_message("s", text) for text in said[4:]]
        assert places(path) == (4, 2)
        for count, commit in enumerate(commits, 1):
            at = store.get_chat_history("s", at=commit.revision)
            assert [message["content"] for message in at] == said[:count]
            assert at.revision == commit.history_revision
            assert texts(store, "s", count) == said[-count:]
        revisions = [entry.revision for entry in store.read_entries("s")]
        assert revisions == sorted(revisions)
        assert [
            entry.revision for entry in store.read_entries("s", revisions[1], limit=3)
        ] == revisions[2:5]
        assert store.stats().entries == 6
        assert len(store.search("5")) == 1
        assert store.verify()


@pytest.mark.parametrize("damaged", range(6))
def test_a_damaged_one_is_named(
    path: Path, always: None, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    """Whether it is in its place or has arrived, by whatever reads it and by nothing else."""
    with holdfast.connect(path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(arrivals, "FEWEST_SESSIONS", 100)
            commits = [store.add_user_message("s", f"{number}") for number in range(4)]
        commits += [store.add_user_message("s", f"{number}") for number in range(4, 6)]
    assert places(path) == (4, 2)
    revisions = [commit.revision for commit in commits]
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("messages", "arrivals"):
            change = f"UPDATE {table} SET crc = crc + 1 WHERE revision = ?"
            connection.execute(change, (revisions[damaged],))
    with holdfast.connect(path) as store:
        for (end, at), last in product([*enumerate(revisions, 1), (6, None)], range(7)):
            begin = max(0, end - last)
            read = partial(store.get_chat_history, "s", last, at=at)
            if begin <= damaged < end:
                with pytest.raises(CorruptEntry) as caught:
                    read()
                assert caught.value.revision == revisions[damaged]
            else:
                said = [message["content"] for message in read()]
                assert said == [f"{number}" for number in range(begin, end)]


def test_a_search_without_an_index_takes_both(
    path: Path, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is ever indexed, so that nothing has to be in its place, a search finds all."""
    monkeypatch.setattr(fulltext, "has_fts5", lambda _: False)
    with holdfast.connect(path) as store:
        store.add_user_message("s", "a needle")
        assert [hit.session_id for hit in store.search("needle")] == ["s"]
        assert places(path) == (0, 1)


def test_processes_know_of_each_others(path: Path, always: None) -> None:
    """Whatever one process has left to be put in place is put there by whoever comes next."""
    with holdfast.connect(path) as one, holdfast.connect(path) as other:
        for number, store in enumerate(itertools.islice(itertools.cycle((one, other)), 20)):
            store.add_user_message("s", f"{number}")
        assert places(path) == (0, 20)
        other.rewind_session("s", -1)
        assert places(path)[1] == 0
        assert copies(path) == 20
        one.add_user_message("s", "after")
        assert other.get_chat_history("s") == one.get_chat_history("s")
        assert one.verify()


@pytest.mark.parametrize("name", ["insert_arrivals", "settle"])
def test_a_failure_forgets_nothing(path: Path, always: None, name: str) -> None:
    """A batch that fails anywhere leaves what had arrived, and the next finds it."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("s", "before")
        FailingConnection.fail_on = bulk(name, 1)
        change: Callable[[], object] = partial(store.add_user_message, "s", "lost")
        if name != "insert_arrivals":
            change = partial(store.clear_session, "s")
        with pytest.raises(Unavailable):
            change()
        assert texts(store, "s") == ["before"]
        assert places(path) == (0, 1)
        store.add_user_message("s", "after")
        assert texts(store, "s") == ["before", "after"]
        store.clear_session("s")
        assert texts(store, "s") == []
        assert places(path) == (3, 0)


@pytest.mark.parametrize("name", ["settle", "drop_arrivals"])
def test_a_failure_keeps_the_queue(path: Path, short: None, name: str) -> None:
    """When the first cannot leave, nothing has happened, and they leave with the next batch."""
    with sqlite_store(path, failing_connection) as store:
        for number in range(4):
            store.add_user_message(f"s{number}", "before")
        FailingConnection.fail_on = bulk(name, 1)
        with pytest.raises(Unavailable):
            store.add_user_message("s0", "lost")
        assert (places(path), copies(path)) == ((0, 4), 0)
        store.add_user_message("s0", "after")
        assert (places(path), copies(path)) == ((2, 3), 1)
        assert texts(store, "s0") == ["before", "after"]


@pytest.mark.parametrize("doubled", [0, 1])
def test_what_is_deleted_leaves_no_trace(
    path: Path, always: None, monkeypatch: pytest.MonkeyPatch, doubled: int
) -> None:
    """A session whose messages only arrived, or stand in two places, is erased like any other."""
    with holdfast.connect(path) as store:
        store.add_user_message("kept", "Pianola")
        store.add_user_message("gone", "Jukebox")
        if doubled:
            with monkeypatch.context() as patch:
                patch.setattr(arrivals, "FEWEST_SESSIONS", 100)
                store.add_user_message("gone", "Jukebox")
        assert copies(path) == doubled
        assert store.delete_session("gone").erasure == "done"
        for suffix in ("", "-wal", "-shm"):
            assert b"Jukebox" not in Path(f"{path}{suffix}").read_bytes()
        assert texts(store, "kept") == ["Pianola"]


def prepared(folder: Path, version: int) -> Path:
    """A store of this schema that is only prepared for the newest: old code may be at work."""
    path = folder / "old.db"
    path.write_bytes((Path(__file__).parents[1] / f"fixtures/schema_{version:03}.db").read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        migrations.migrate(connection, before_only=True)
        connection.execute("COMMIT")
    return path


@pytest.mark.parametrize("version", range(4, 6))
def test_old_code_may_be_at_work(tmp_path: Path, always: None, version: int) -> None:
    """In a store that is only prepared for this schema no copies are made: old code may read it."""
    path = prepared(tmp_path, version)
    before = count(path, ALL)
    with holdfast.connect(path, migrate=False) as store:
        store.add_user_message("ada", "Hello")
        assert count(path, "arrivals") == 0
        assert count(path, "messages") == before + 1


def test_old_code_finds_no_copies_of_its_own(tmp_path: Path) -> None:
    """Not even where a write only looks at messages, as that of a turn which is repeated."""
    path = prepared(tmp_path, 5)
    with holdfast.connect(path, migrate=False) as store:
        store.add_user_message("s", "before")
        with pytest.raises(RuntimeError), store.turn("s", "ask", key="k"):
            raise RuntimeError
        store.edit_history("s", lambda history: history[1:])
        store.add_user_message("s", "after")
        with closing(sqlite3.connect(path)) as connection, connection:  # as old code would have it
            last = "FROM messages WHERE revision = (SELECT max(revision) FROM messages)"
            columns = "revision, kind, ordinal, turn, attempt, at, payload, crc"
            connection.execute(f"INSERT INTO arrivals ({columns}) SELECT {columns} {last}")
            connection.execute(f"DELETE {last}")
        with store.turn("s", "ask", key="k") as turn:
            assert turn.attempt == 2
        assert copies(path) == 0
        assert texts(store, "s") == ["ask", "after"]


def test_whoever_waited_for_old_code_goes_on(tmp_path: Path, always: None) -> None:
    """Once the store is wholly at this version, workers that were there before use the queue."""
    path = prepared(tmp_path, 5)
    with holdfast.connect(path, migrate=False) as store:
        store.add_user_message("s", "before")
        assert count(path, "arrivals") == 0
        holdfast.connect(path).close()
        store.add_user_message("s", "after")
        assert count(path, "arrivals") == 1
        assert texts(store, "s") == ["before", "after"]


WORKER = """
import asyncio, sys, holdfast
async def main(path, name, count):
    async with holdfast.connect_async(path) as store:
        async def talk(session_id):
            for number in range(count):
                await store.add_user_message(session_id, f"{name} {number}")
                print(session_id, number, flush=True)
        await asyncio.gather(*(talk(f"s{n}") for n in range(24)))
asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def test_killed_among_many(path: Path) -> None:
    """Of busy processes that share sessions one is killed: all that was acknowledged is there."""
    holdfast.connect(path).close()
    workers = {
        name: started(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(path), name, count],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        # The one that is killed would go on for ever, so it cannot come to its end before that.
        for name, count in (("killed", "1000000"), ("left", "40"), ("right", "40"))
    }
    acknowledged: dict[str, list[str]] = {}
    killed = workers["killed"]
    assert killed.stdout is not None
    early = list(itertools.islice(killed.stdout, 200))
    killed.kill()
    for name, worker in workers.items():
        out, _ = worker.communicate(timeout=240)
        acknowledged[name] = (early if name == "killed" else []) + out.splitlines()
    assert [worker.returncode for worker in workers.values()] == [-9, 0, 0]
    with holdfast.connect(path) as store:
        assert store.verify()
        found = {f"s{n}": texts(store, f"s{n}") for n in range(24)}
    for name, lines in acknowledged.items():
        for session_id, stored in found.items():
            own = [text for text in stored if str(text).startswith(f"{name} ")]
            assert own == [f"{name} {number}" for number in range(len(own))]
            said = sum(line.split()[0] == session_id for line in lines if line.count(" ") == 1)
            assert said <= len(own) <= said + 1
