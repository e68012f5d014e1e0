"""The search index: it finds what a scan finds, whatever happens to it and to the log."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast import SearchHit, SessionStore
from holdfast.errors import InvalidArgument, Unavailable
from holdfast.model.commit import Commit, Deletion
from holdfast.model.message import Message
from holdfast.model.search import Indexed
from holdfast.model.write import Write, WriteKind
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources
from holdfast.store.sqlite import fulltext
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import Database, plain_connection
from holdfast.store.sqlite.indexing import SLICE, Index
from holdfast.store.sqlite.queries import queries
from holdfast.store.writing import Writing
from tests.store.opening import FailingConnection, failing_connection, sqlite_store

WORDS = ("a", "b", "ab", "Ä", "東京", "が", "don't", "ß", "🙂", "x" * 120, "\u0301", "ก็", '"', "*")
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join) | st.text(max_size=20)
asked_for = (
    st.lists(st.sampled_from((*WORDS, "a*", '"a b"', '"b a"*', "東*")), min_size=1, max_size=3).map(
        " ".join
    )
    | st.text(max_size=12)
    | st.text('"ab* OR-:()^{}+,\n', max_size=12)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store is to be made."""
    return tmp_path / "a.db"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    """A store with a file."""
    with holdfast.connect(path, durability="relaxed") as store:
        yield store


def ask(path: Path, statement: str) -> Any:
    """What another program reads in the file: the first value."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchone()[0]
    finally:
        connection.close()


def check_index(path: Path) -> None:
    """Fail unless the index is sound, and has one row for each message that it should have."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
        rows = connection.execute("SELECT rowid FROM search ORDER BY rowid").fetchall()
        assert rows == connection.execute("SELECT id FROM searched_messages").fetchall()
    finally:
        connection.close()


def places(hits: list[SearchHit]) -> list[tuple[str, int, int]]:
    """The addresses of hits."""
    return [(hit.session_id, hit.revision, hit.index) for hit in hits]


@given(st.lists(texts, min_size=1, max_size=12), st.lists(asked_for, min_size=1, max_size=6))
def test_the_index_finds_what_a_scan_finds(
    tmp_path_factory: pytest.TempPathFactory, said: list[str], asked: list[str]
) -> None:
    """On any texts and queries both find the same messages, in the same order."""
    sources = Sources(now_ms=lambda: 1_700_000_000_000)
    path = tmp_path_factory.mktemp("search") / "a.db"
    memory = SessionStore(Engine(MemoryBackend(sources), sources), "default", sources, 5.0)
    with memory, holdfast.connect(path, durability="relaxed", sources=sources) as file:
        for number, text in enumerate(said):
            for store in (memory, file):
                store.add_user_message(f"s{number % 3}", text)
        for query in asked:
            try:
                expected = memory.search(query)
            except InvalidArgument:
                with pytest.raises(InvalidArgument):
                    file.search(query)
                continue
            assert file.search(query) == expected
        file.search("a")
        check_index(path)


def user(text: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": text}


def say(path: Path, counts: dict[str, int]) -> None:
    """Say so much in these sessions, one message an entry."""
    with holdfast.connect(path, durability="relaxed") as store:
        for name, count in counts.items():
            for number in range(count):
                store.add_user_message(name, f"needle {number}")


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


# Without an index


class NoIndex(sqlite3.Connection):
    """A connection of a SQLite that was built without FTS5."""

    def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
        """Run a statement; whatever needs FTS5 fails as it does without."""
        if "pragma_module_list" in statement:
            statement = statement.replace("'fts5'", "'fts0'")
        if "fts5(" in statement or "INTO search " in statement or "TABLE IF EXISTS" in statement:
            raise sqlite3.OperationalError("no such module: fts5")
        return super().execute(statement, *rest)


def without_fts5(path: str) -> sqlite3.Connection:
    """Open a `NoIndex` connection, as the backend opens its own."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=NoIndex)


def read_only(path: str) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    uri = f"file:{path}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def fill(store: SessionStore) -> list[list[SearchHit]]:
    """Say something, search, say more, and search again: what is found then."""
    for number in range(20):
        store.add_user_message(f"s{number % 3}", f"needle {'hay ' * number}")
    store.search("needle")
    store.add_user_message("s1", "needle last")
    store.set_chat_history("s2", [user("hay needle"), user("hay")])
    return found(store)


def found(store: SessionStore) -> list[list[SearchHit]]:
    """What some searches find."""
    return [store.search(query) for query in ("needle", "hay*", '"needle hay"', "last needle")]


@pytest.mark.parametrize("indexed", ["not at all", "in part", "up to date"])
def test_a_read_only_store(path: Path, indexed: str) -> None:
    """A store that cannot be written finds the same, however far its index has got."""
    with holdfast.connect(path) as store:
        expected = fill(store)
        if indexed == "in part":
            store.add_user_message("s0", "more")
            store.set_chat_history("s1", store.get_chat_history("s1")[1:])
        elif indexed == "not at all":
            connection = plain_connection(str(path))
            for table in ("messages", "sessions", "tenants"):
                connection.execute(f"DELETE FROM searched_{table}")
            connection.execute("DROP TABLE search")
            connection.close()
        with sqlite_store(path, read_only) as reader:
            there = found(reader)
            rows = ask(path, "SELECT count(*) FROM searched_messages")
        if indexed == "in part":
            expected = found(store)
        assert [set(places(hits)) for hits in there] == [set(places(hits)) for hits in expected]
        assert there == expected
        assert rows == {"not at all": 0, "in part": 17, "up to date": 17}[indexed]


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that cannot write its index for want of room finds what there is all the same."""
    with sqlite_store(path, failing_connection) as store:
        store.add_user_message("s", "needle")
        for statement in (queries()["put_search_mark"], "BEGIN IMMEDIATE"):
            monkeypatch.setattr(FailingConnection, "error_code", sqlite3.SQLITE_FULL)
            monkeypatch.setattr(FailingConnection, "fail_on", statement)
            assert len(store.search("needle")) == 1
            assert FailingConnection.fail_on is None
        assert len(store.search("needle")) == 1
        assert ask(path, "SELECT count(*) FROM searched_messages") == 1


def test_without_fts5(path: Path, tmp_path: Path) -> None:
    """A SQLite without FTS5 finds the same, and makes nothing that it could not read."""
    with holdfast.connect(tmp_path / "with.db", sources=ticking()) as store:
        expected = fill(store)
    with sqlite_store(path, without_fts5, sources=ticking()) as store:
        assert fill(store) == expected
        assert ask(path, "SELECT count(*) FROM sqlite_master WHERE name = 'search'") == 0
        assert ask(path, "SELECT count(*) FROM searched_sessions") == 0
        assert store.delete_session("s0").erasure == "done"


def test_an_index_that_one_of_two_can_read(path: Path) -> None:
    """A build without FTS5 finds, adds and deletes beside one that fills the index."""
    with holdfast.connect(path) as store, sqlite_store(path, without_fts5) as other:
        expected = fill(store)
        assert found(other) == expected
        other.add_user_message("s0", "added needle")
        assert len(store.search("added")) == 1
        assert other.delete_session("s0").erasure == "done"
        assert ask(path, "SELECT count(*) FROM search_docsize") == 0
        assert found(store) == found(other)
        assert store.search("added") == []
        check_index(path)
        assert other.delete_session("s1").erasure == "done"
        assert found(store) == found(other)


def ticking() -> Sources:
    """Time that goes on by itself, the same way each time."""
    ticks, ids = itertools.count(1_700_000_000_000), itertools.count(1)
    return Sources(now_ms=lambda: next(ticks) // 7, new_id=lambda: f"{next(ids):016x}")


# Damage


def damage(path: Path, statement: str) -> None:
    """Change the file behind Holdfast's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    assert connection.execute(statement).rowcount != 0
    connection.close()


@pytest.mark.parametrize("searched_before", [True, False])
def test_a_damaged_entry(store: SessionStore, path: Path, *, searched_before: bool) -> None:
    """A damaged entry is passed over; all else is found, and its session can be deleted."""
    for name in "abc":
        store.add_messages(name, [user(f"needle of {name}"), user("hay")])
        store.add_user_message(name, "another needle")
    if searched_before:
        assert len(store.search("needle")) == 6
    damage(
        path,
        "UPDATE messages SET payload = replace(payload, 'needle', 'noodle') WHERE "
        "payload LIKE '%needle of b%'",
    )
    assert sorted(hit.snippet for hit in store.search("needle")) == [
        *["another needle"] * 3,
        "needle of a",
        "needle of c",
    ]
    assert len(store.search("needle", limit=2)) == 2
    assert store.search("noodle") == []
    assert not store.verify()
    assert store.delete_session("b").erasure == "done"
    assert len(store.search("needle")) == 4
    assert store.search('"of b"') == []
    assert store.verify()
    check_index(path)


def test_limits_beside_damaged_entries(store: SessionStore, path: Path) -> None:
    """Damaged entries take no place of those that can be read."""
    for number in range(60):
        store.add_user_message("s", f"needle {number}")
    store.search("needle")
    damage(path, "UPDATE messages SET payload = '{}' WHERE revision & 4294967295 > 20")
    assert len(store.search("needle", limit=15)) == 15
    assert len(store.search("needle", limit=100)) == 20


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE search_data SET block = zeroblob(length(block)) WHERE id > 10",
        "UPDATE search_data SET block = x'ffffffffffffffff' WHERE id = 10",
        "DELETE FROM search_data WHERE id > 10",
        "DELETE FROM search_docsize",
        "DELETE FROM searched_messages",
        "DELETE FROM searched_sessions",
        "DROP TABLE search",
    ],
)
def test_a_damaged_index(path: Path, statement: str) -> None:
    """Whatever happens to the index, no message is hurt and no other's write fails."""
    with holdfast.connect(path) as store:
        fill(store)
    damage(path, statement)
    with holdfast.connect(path) as store:
        store.add_user_message("s0", "needle new")
        assert [hit.snippet for hit in store.search("new")] == ["needle new"]
        store.set_chat_history("s1", [user("needle rewritten")])
        assert [hit.snippet for hit in store.search("rewritten")] == ["needle rewritten"]
        assert store.delete_session("s2")
        assert store.search('"needle hay"', user_id="nobody") == []
        assert store.verify()


def test_a_damaged_index_in_a_batch(path: Path) -> None:
    """Writes that share a commit with one that meets a damaged index are done all the same."""
    with holdfast.connect(path) as store:
        fill(store)
        store.add_user_message("s0", "needle new")
    damage(path, "UPDATE search_data SET block = x'ffffffffffffffff' WHERE id = 10")
    sources = Sources()
    backend = SqliteBackend(Database(path, "relaxed", 5.0, plain_connection), sources)
    backend.open()
    writing = Writing(Reading(backend, "default"), "default", sources)
    writes = [
        writing.add("new", [user("first")], path="{}", key="once"),
        Write(tenant="default", session_id="", kind=WriteKind.INDEX),
        writing.delete("s2"),
        writing.add("new", [user("second")], path="{}"),
    ]
    assert backend.admit(wait=True)
    added, indexed, deleted, later = backend.commit(writes)
    backend.leave()
    backend.close()
    assert isinstance(added, Commit)
    assert not added.replayed
    assert isinstance(indexed, Indexed)
    assert isinstance(deleted, Deletion)
    assert isinstance(later, Commit)
    with holdfast.connect(path) as store:
        assert [m["content"] for m in store.get_chat_history("new")] == ["first", "second"]
        assert not store.session_exists("s2")
        assert len(store.search("first")) == 1
        assert store.verify()
    check_index(path)


# Erasing


def test_a_session_that_others_delete(store: SessionStore, path: Path) -> None:
    """Rows that are deleted by hand, or by older code, make the index begin anew."""
    expected = fill(store)
    damage(path, "DELETE FROM messages WHERE revision >> 32 = 1")
    damage(path, "DELETE FROM sessions WHERE pk = 1")
    assert ask(path, "SELECT count(*) FROM searched_sessions") == 0
    left = [[hit for hit in hits if hit.session_id != "s0"] for hits in expected]
    assert [set(places(hits)) for hits in found(store)] == [set(places(hits)) for hits in left]
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
