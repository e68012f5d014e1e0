"""The search index: it finds what a scan finds, whatever happens to it and to the log."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast
from holdfast import SessionStore
from holdfast.errors import InvalidArgument, Unavailable
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sqlite import fulltext
from holdfast.store.sqlite.indexing import MESSAGES_OF_AN_ENTRY, SLICE, Index
from holdfast.store.sqlite.writer import Writer
from holdfast.testing.postgres import Server
from tests.store.opening import FailingConnection, failing_connection, sqlite_store
from tests.store.searched import ask, check_index, damage, fill, found, places, say, user

WORDS = ("a", "b", "ab", "Ä", "東京", "が", "don't", "ß", "🙂", "x" * 120, "\u0301", "ก็", '"', "*")
_numbers = itertools.count(1)
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join) | st.text(max_size=20)
asked_for = (
    st.lists(st.sampled_from((*WORDS, "a*", '"a b"', '"b a"*', "東*")), min_size=1, max_size=3).map(
        " ".join
    )
    | st.text(max_size=12)
    | st.text('"ab* OR-:()^{}+,\n', max_size=12)
)


said_and_asked = (
    st.lists(texts, min_size=1, max_size=12),
    st.lists(asked_for, min_size=1, max_size=6),
)


@given(*said_and_asked)
def test_the_index_finds_what_a_scan_finds(
    tmp_path_factory: pytest.TempPathFactory, said: list[str], asked: list[str]
) -> None:
    """On any texts and queries both find the same messages, in the same order."""
    path = tmp_path_factory.mktemp("search") / "a.db"
    find_the_same(str(path), said, asked)
    check_index(path)


@settings(max_examples=25)
@given(*said_and_asked)
def test_the_index_on_a_server_finds_what_a_scan_finds(
    server: Server, said: list[str], asked: list[str]
) -> None:
    """The same holds of PostgreSQL's index."""
    find_the_same(f"{server.url}?schema=search_{next(_numbers)}", said, asked)


def find_the_same(url: str, said: list[str], asked: list[str]) -> None:
    """Say and ask the same in memory and in a new store."""
    sources = Sources(now_ms=lambda: 1_700_000_000_000)
    memory = SessionStore(Engine(MemoryBackend(sources), sources), "default", sources, 5.0)
    with memory, holdfast.connect(url, durability="relaxed", sources=sources) as other:
        for number, text in enumerate(said):
            for store in (memory, other):
                store.add_user_message(f"s{number % 3}", text)
        for query in asked:
            try:
                expected = memory.search(query)
            except InvalidArgument:
                with pytest.raises(InvalidArgument):
                    other.search(query)
                continue
            assert other.search(query) == expected
        other.search("a")


class Traced(sqlite3.Connection):
    """A connection that writes down its statements."""

    statements: ClassVar[list[str]] = []

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        """Run a statement and write it down."""
        Traced.statements.append(statement)
        return super().execute(statement, *rest)


def traced(path: str) -> sqlite3.Connection:
    """Open a `Traced` connection, as the backend opens its own."""
    Traced.statements = []
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Traced)


# Filling


def test_appending_does_not_pay(path: Path) -> None:
    """An append runs the same statements and writes as much, whether anybody searched or not."""

    def cost() -> tuple[list[str], int]:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        store.add_user_message("s", "warm")
        before = wal.stat().st_size
        Traced.statements.clear()
        store.add_user_message("s", "a message of some words")
        return Traced.statements[:], wal.stat().st_size - before

    wal = Path(f"{path}-wal")
    with sqlite_store(path, traced) as store:
        cost()
        before = cost()
        assert len(store.search("words")) == 2
        assert any("searched" in statement for statement in Traced.statements)
        assert cost() == before
        assert before[1] > 0
        assert len(store.search("words")) == 3


def test_a_search_of_what_is_indexed_writes_nothing(path: Path) -> None:
    """Only what is new is indexed; without anything new a search takes no write lock."""
    with sqlite_store(path, traced) as store:
        store.add_user_message("s", "needle")
        store.search("needle")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        assert len(store.search("needle")) == 1
        holder.execute("ROLLBACK")
        holder.close()
        store.rename_session("s", "titles are not indexed")
        Traced.statements.clear()
        assert len(store.search("needle")) == 1
        assert not any(s.startswith(("BEGIN IMMEDIATE", "INSERT")) for s in Traced.statements)


def test_slices(path: Path) -> None:
    """Much is indexed in commits of so many entries each, across sessions, and each entry once."""
    say(path, {"a": SLICE - 1, "b": 2, "c": 2 * SLICE, "d": 1})
    with sqlite_store(path, traced) as store:
        Traced.statements.clear()
        assert len(store.search("needle", limit=5000)) == 3 * SLICE + 2
        assert Traced.statements.count("BEGIN IMMEDIATE") == 4
        assert ask(path, "SELECT count(*) FROM searched_messages") == 3 * SLICE + 2
        assert ask(path, "SELECT count(*) FROM searched_sessions") == 4
    check_index(path)


@pytest.mark.parametrize("size", range(8, 24, 4))
def test_a_slice_that_ends_with_a_session(path: Path, size: int) -> None:
    """Whatever the last entry of a slice counts for, the session after it is not left out."""
    sessions = SLICE * MESSAGES_OF_AN_ENTRY // size + 2
    with holdfast.connect(path, durability="relaxed") as store:
        for number in range(sessions):
            store.add_messages(f"s{number}", [user("needle")] * size)
        hits = store.search("needle", limit=sessions * size)
        assert len({hit.session_id for hit in hits}) == sessions


def test_an_entry_of_many_messages(store: SessionStore, path: Path) -> None:
    """One entry with more messages than a slice is indexed in one piece; rewrites are, too."""
    store.add_messages("s", [user(f"needle {n}") for n in range(3 * SLICE)])
    store.set_chat_history("t", [user(f"needle {n}") for n in range(3 * SLICE)])
    hits = store.search("needle", limit=10_000)
    assert len(set(places(hits))) == 6 * SLICE
    (hit,) = store.search(f"needle {3 * SLICE - 1}", limit=1)
    assert hit.snippet == f"needle {3 * SLICE - 1}"
    check_index(path)


def test_former_generations_leave_the_index(store: SessionStore, path: Path) -> None:
    """The index holds one generation of a session, however often it was rewritten and searched."""
    for number in range(5):
        store.set_chat_history("s", [user(f"round{number} text{n}") for n in range(700)])
        assert len(store.search(f"round{number}", limit=1000)) == 700
        assert ask(path, "SELECT count(*) FROM searched_messages") == 700
        check_index(path)
    store.clear_session("s")
    store.add_user_message("t", "other")
    store.search("other")
    assert ask(path, "SELECT count(*) FROM searched_messages") == 1


def test_others_write_between_slices(path: Path) -> None:
    """Between two slices other writers get in, and what they said is found as well."""
    say(path, {"s": 2 * SLICE, "rewritten": 1})
    said = itertools.count()
    with holdfast.connect(path) as other:

        def monotonic_s() -> float:  # asked before each slice
            other.add_user_message("s", f"between{next(said)}")
            other.set_chat_history("rewritten", [user("needle again")])
            return 0.0

        with holdfast.connect(path, sources=Sources(monotonic_s=monotonic_s)) as store:
            hits = store.search("needle", limit=5000)
            times = next(said)
        assert times > 3
        assert len(hits) == 2 * SLICE + 1
        assert len(other.search("between*", limit=100)) == times
    check_index(path)


def test_the_deadline(path: Path) -> None:
    """A search that cannot fill the index in time says so; the next one goes on from there."""
    now = [0.0]

    def sources() -> Sources:
        def monotonic_s() -> float:
            now[0] += 1.0
            return now[0]

        return Sources(monotonic_s=monotonic_s)

    say(path, {"s": 3 * SLICE})
    with holdfast.connect(path, timeout=5.0, sources=sources()) as store:
        with pytest.raises(Unavailable, match="still lacks about") as caught:
            store.search("needle")
        assert caught.value.code == "deadline"
        done = ask(path, "SELECT count(*) FROM searched_messages")
        assert 0 < done < 3 * SLICE
        for _ in range(5):
            now[0] = 0.0
            try:
                assert len(store.search("needle", limit=5000)) == 3 * SLICE
                break
            except Unavailable:
                assert ask(path, "SELECT count(*) FROM searched_messages") > done
        else:
            pytest.fail("the index was never filled")


def test_an_unknown_outcome(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search never leaves anybody in doubt about a write: it says that it can be repeated."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("s", "needle")
        real = Writer._commit_batch

        def fail(writer: Writer, batch: Any) -> None:
            FailingConnection.fail_on = "COMMIT"
            real(writer, batch)

        monkeypatch.setattr(Writer, "_commit_batch", fail)
        with pytest.raises(Unavailable, match="could not be brought up to date"):
            store.search("needle")
        monkeypatch.undo()
        assert len(store.search("needle")) == 1


def test_a_search_that_does_not_get_its_turn(path: Path) -> None:
    """A search that has to write while somebody holds the file says so when its time is over."""
    with sqlite_store(path, timeout_s=0.2) as store:
        store.add_user_message("s", "needle")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            store.search("needle")
        assert caught.value.retryable
        holder.execute("ROLLBACK")
        holder.close()
        assert len(store.search("needle")) == 1


# Taking out


def test_a_session_that_others_delete(store: SessionStore, path: Path) -> None:
    """Rows that are deleted by hand, or by older code, make the index begin anew."""
    expected = fill(store)
    damage(path, "DELETE FROM messages WHERE revision >> 32 = 1")
    damage(path, "DELETE FROM sessions WHERE pk = 1")
    assert ask(path, "SELECT count(*) FROM searched_sessions") == 0
    left = [[hit for hit in hits if hit.session_id != "s0"] for hits in expected]
    assert [set(places(hits)) for hits in found(store)] == [set(places(hits)) for hits in left]
    check_index(path)


def test_deleting_leaves_the_rest_of_the_index(store: SessionStore, path: Path) -> None:
    """With a session only its own messages leave the index."""
    fill(store)
    left = ask(path, "SELECT count(*) FROM searched_messages WHERE id >> 32 != 2")
    assert left > 5
    store.delete_session("s1")
    assert ask(path, "SELECT count(*) FROM searched_messages") == left
    check_index(path)


def test_taking_out_a_session_that_goes_on(store: SessionStore, path: Path) -> None:
    """What is taken out of the index is indexed again, as far as the session still has it."""
    for name in "abc":
        store.add_user_message(name, f"needle of {name}")
    expected = store.search("needle")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    Index(connection).take_out("default", 1)
    connection.execute("COMMIT")
    connection.close()
    assert ask(path, "SELECT count(*) FROM searched_messages") == 2
    assert set(places(store.search("needle"))) == set(places(expected))
    assert ask(path, "SELECT count(*) FROM searched_messages") == 3
    check_index(path)


# Tenants


@pytest.mark.parametrize("fault", ["the index does not ask for the tenant", "rows change hands"])
def test_tenants_are_told_apart_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """If one of the two checks of the tenant failed, the other one would still hold."""
    with (
        holdfast.connect(path, tenant="a") as one,
        holdfast.connect(path, tenant="b") as other,
    ):
        one.add_user_message("s", "needle of one")
        other.add_user_message("s", "needle of other")
        one.search("needle")
        other.search("needle")
        if fault == "rows change hands":
            damage(path, "UPDATE sessions SET tenant = 'c' WHERE tenant = 'a'")
            damage(path, "UPDATE sessions SET tenant = 'a' WHERE tenant = 'b'")
            assert one.search("needle") == []
        else:
            expression = fulltext.expression
            monkeypatch.setattr(fulltext, "expression", lambda _, query: expression("b", query))
            assert one.search("needle") == []
            assert len(other.search("needle")) == 1


def test_planted_fault_in_the_mark(store: SessionStore, path: Path) -> None:
    """Without the trigger on deleted sessions a change after such a deletion would be missed."""
    store.add_user_message("s", "one")
    store.add_user_message("t", "two")
    store.search("one")
    damage(path, "DROP TRIGGER session_goes")
    store.delete_session("t")
    store.close()
    with holdfast.connect(path, sources=Sources(now_ms=lambda: 1)) as later:
        later.add_user_message("s", "three")
        assert later.search("three") == []  # the fault
