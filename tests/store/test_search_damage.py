"""Search beside damage: of entries, which are passed over, and of the index, which is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

import holdfast
from holdfast import SessionStore
from holdfast.model.commit import Commit, Deletion
from holdfast.model.search import Indexed
from holdfast.model.write import Write, WriteKind
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import Database, plain_connection
from holdfast.store.writing import Writing
from tests.store.searched import check_index, damage, fill, user


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


def test_damage_that_shows_late(path: Path) -> None:
    """Damage that shows only when the index is merged, or written down, fails no commit."""
    with holdfast.connect(path) as store:
        for number in range(40):
            if number == 20:
                damage(path, "UPDATE search_data SET block = x'ffffffffffff' WHERE id > 10")
            store.add_user_message("s", f"new{number}")
            assert [hit.snippet for hit in store.search(f"new{number}")] == [f"new{number}"]
        assert len(store.search("new*", limit=50)) == 40
        store.add_user_message("t", "other")
        store.search("other")
        damage(path, "UPDATE search_data SET block = x'ffffffffffffffff' WHERE id = 10")
        assert store.delete_session("t").erasure == "done"
        assert len(store.search("new*", limit=50)) == 40
        assert store.verify()
    check_index(path)


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
