"""Deleting and purging destroy: the bytes too."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import holdfast
from holdfast import SessionStore
from holdfast.store.sources import Sources
from holdfast.store.sqlite.writer import Writer

SECRET = "correct horse battery staple"


def traces(folder: Path) -> list[str]:
    """Return the files that hold the secret or the session's id, byte for byte."""
    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        if SECRET.encode() in data or b"secret-session" in data or b"SECRET" in data:
            found.append(file.name)
    return found


def fill(store: SessionStore) -> None:
    """Write a secret session between others, in every place where text can stand."""
    for number in range(40):
        store.add_user_message("before", f"harmless {number} " + "x" * 300)
        store.add_user_message("secret-session", f"{SECRET} {number} " + "y" * 700)
        store.add_user_message("zafter", f"harmless {number} " + "z" * 300)
    store.add_user_message("secret-session", SECRET + "w" * 20_000, key="SECRET-key")
    store.set_chat_history("secret-session", [{"role": "user", "content": SECRET}])
    store.rename_session("secret-session", f"SECRET title: {SECRET}")
    store.update_session_metadata("secret-session", note=f"SECRET note {SECRET}")


def test_no_byte_of_a_deleted_session_is_left(tmp_path: Path) -> None:
    """Database, write-ahead log and shared memory hold nothing of it, and the store lives on."""
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        fill(store)
        assert "a.db" in traces(tmp_path) or "a.db-wal" in traces(tmp_path)
        deletion = store.delete_session("secret-session")
        assert deletion
        assert deletion.erasure == "done"
        assert traces(tmp_path) == []
        assert len(store.get_chat_history("before")) == 40
        assert store.verify()
    assert traces(tmp_path) == []


WORDS = ("zyxwv", "quizzify", "jukebox", "東")
"""Words that nothing else in the files is like, as the index holds them."""


def indexed_traces(folder: Path) -> list[str]:
    """Return the words whose ends stand in a file: an index leaves out how neighbours begin."""
    return [
        f"{word} in {file.name}"
        for file in sorted(folder.iterdir())
        for word in WORDS
        if word[-4:].encode() in file.read_bytes()
    ]


def fill_and_index(store: SessionStore) -> None:
    """Say the words in a session between others, in several steps, searching after each."""
    for number in range(12):
        for name in ("before", "secret-session", "zafter"):
            said = f"{' '.join(WORDS).title()} " if name == "secret-session" else "harmless "
            store.add_messages(
                name, [{"role": "user", "content": f"{said} {n} filler"} for n in range(40)]
            )
        store.search("filler")
        if number % 3 == 2:
            kept = store.get_chat_history("secret-session")[30:]
            store.set_chat_history("secret-session", kept)


def test_no_word_of_a_deleted_session_is_left_in_the_index(tmp_path: Path) -> None:
    """No file holds a word of it, though the index held them all; others are found as before."""
    with holdfast.connect(tmp_path / "a.db") as store:
        fill_and_index(store)
        assert store.search(WORDS[0])
        assert indexed_traces(tmp_path)
        assert len(store.search("harmless", limit=2000)) == 960
        assert store.delete_session("secret-session").erasure == "done"
        assert indexed_traces(tmp_path) == []
        assert store.search(WORDS[0]) == []
        assert len(store.search("harmless", limit=2000)) == 960
        assert store.verify()
    assert indexed_traces(tmp_path) == []


def test_no_word_of_a_purged_generation_is_left_in_the_index(tmp_path: Path) -> None:
    """Purging takes words of earlier histories out of the index; the current one is found."""
    with holdfast.connect(tmp_path / "a.db") as store:
        fill_and_index(store)
        store.set_chat_history("secret-session", [{"role": "user", "content": "harmless now"}])
        assert indexed_traces(tmp_path)
        assert store.purge("secret-session").erasure == "done"
        assert indexed_traces(tmp_path) == []
        assert store.search(WORDS[0]) == []
        assert [hit.session_id for hit in store.search("harmless now")] == ["secret-session"]
        assert store.verify()
    assert indexed_traces(tmp_path) == []


@pytest.mark.parametrize("merged", [True, False])
def test_planted_fault_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, merged: bool
) -> None:
    """The scan catches an index whose words were taken out but which was not merged."""
    if not merged:
        monkeypatch.setattr("holdfast.store.sqlite.writer.tidy", lambda _: None)
    with holdfast.connect(tmp_path / "a.db") as store:
        fill_and_index(store)
        store.delete_session("secret-session")
    assert (indexed_traces(tmp_path) == []) is merged


def test_an_index_is_erased_once_a_reader_has_gone(tmp_path: Path) -> None:
    """While somebody reads an old state of the index its words stay; then they go."""
    path = tmp_path / "a.db"
    with holdfast.connect(path) as store:
        fill_and_index(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM search WHERE search MATCH 'jukebox'").fetchone()
        assert store.delete_session("secret-session").erasure == "pending"
        assert store.search("jukebox") == []
        assert indexed_traces(tmp_path)
        reader.execute("COMMIT")
        reader.close()
    assert indexed_traces(tmp_path) == []


@pytest.mark.parametrize("damaged", ["messages", "words", "structure"])
def test_an_index_that_words_cannot_be_taken_out_of_is_erased_whole(
    tmp_path: Path, damaged: str
) -> None:
    """If an entry or the index is damaged, deleting erases all of the index, and it grows again."""
    path = tmp_path / "a.db"
    with holdfast.connect(path) as store:
        fill_and_index(store)
        connection = sqlite3.connect(path, isolation_level=None)
        if damaged == "messages":
            connection.execute("UPDATE messages SET crc = 1 WHERE payload LIKE '%Jukebox%'")
        else:
            where = "id > 10" if damaged == "words" else "id = 10"
            connection.execute(f"UPDATE search_data SET block = x'ffffffffff' WHERE {where}")
        connection.close()
        assert store.delete_session("secret-session").erasure == "done"
        assert indexed_traces(tmp_path) == []
        assert len(store.search("harmless", limit=2000)) == 960


def test_a_reader_delays_the_erasure_which_is_remembered(tmp_path: Path) -> None:
    """While somebody reads an old state its bytes must stay; they go with the next chance."""
    path = tmp_path / "a.db"
    with holdfast.connect(str(path)) as store:
        fill(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        deletion = store.delete_session("secret-session")
        assert deletion
        assert deletion.erasure == "pending"
        assert traces(tmp_path) != []
        reader.execute("COMMIT")
        reader.close()
    with holdfast.connect(str(path)) as store:  # closing tried again
        assert traces(tmp_path) == []
        assert not store.session_exists("secret-session")


def test_what_waits_to_be_erased_is_overwritten_before(tmp_path: Path) -> None:
    """The pages that a session leaves are zeros, also while the file cannot be rewritten."""
    path = tmp_path / "a.db"
    with holdfast.connect(path) as store:
        for number in range(40):
            store.add_user_message("secret", f"SECRET {number} " * 100)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM messages").fetchone()
            assert store.delete_session("secret").erasure == "pending"
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert b"SECRET 20" not in path.read_bytes()


def test_a_pending_erasure_survives_the_process(tmp_path: Path) -> None:
    """It is remembered in the file: a later process's first write finishes it."""
    path = tmp_path / "a.db"
    reader = None
    with holdfast.connect(str(path)) as store:
        fill(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        assert store.delete_session("secret-session").erasure == "pending"
    reader.execute("COMMIT")
    assert traces(tmp_path) != []
    with holdfast.connect(str(path)) as store:
        store.add_user_message("before", "a later process")
        assert traces(tmp_path) == []
    reader.close()


def test_deleting_what_is_not_there_erases_nothing(tmp_path: Path) -> None:
    """`Deletion` is false and says so."""
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        deletion = store.delete_session("nobody")
        assert not deletion
        assert deletion.erasure == "none"


@pytest.mark.parametrize("seed", range(8))
def test_no_byte_is_left_whatever_the_pages_look_like(tmp_path: Path, seed: int) -> None:
    """Rows that moved between pages leave copies behind, which are overwritten as well."""
    chance = random.Random(seed)
    still = Sources(monotonic_s=lambda: 0.0)  # a slow disk would put the later erasures off
    with holdfast.connect(tmp_path / "a.db", durability="relaxed", sources=still) as store:
        for number in range(300):
            session = chance.randrange(12)
            text = f"SECRET-{session:02} " * chance.randrange(1, 60)
            key = f"SECRET-{session:02}-key-{number}" if chance.random() < 0.5 else None
            store.add_user_message(f"SECRET-{session:02}", text, key=key)
        for session in chance.sample(range(12), 6):
            deletion = store.delete_session(f"SECRET-{session:02}")
            if deletion.existed:
                assert deletion.erasure == "done"
            for file in tmp_path.iterdir():
                assert f"SECRET-{session:02}".encode() not in file.read_bytes(), file.name
        assert store.verify()


def test_an_open_process_finishes_what_another_left(tmp_path: Path) -> None:
    """A pending erasure of a process that is gone is done by the next write of any other."""
    path = tmp_path / "a.db"
    with holdfast.connect(str(path)) as lasting:
        fill(lasting)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        with holdfast.connect(str(path)) as passing:
            assert passing.delete_session("secret-session").erasure == "pending"
        reader.execute("COMMIT")
        reader.close()
        lasting.add_user_message("before", "goes on")
        assert traces(tmp_path) == []


@pytest.mark.parametrize("failure", [MemoryError(), sqlite3.DatabaseError("malformed")])
def test_an_erasure_that_fails_leaves_the_deletion_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """What goes wrong after the commit neither undoes, repeats nor denies it."""

    def fail(writer: Writer) -> bool:
        raise failure

    with holdfast.connect(str(tmp_path / "a.db")) as store:
        store.add_user_message("a", "gone")
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_empty_log", fail)
            deletion = store.delete_session("a")
            assert deletion.existed
            assert deletion.erasure == "pending"
            store.add_user_message("b", "once")
        assert not store.session_exists("a")
        assert len(store.get_chat_history("b")) == 1


def redact(store: SessionStore) -> None:
    """Take the secret out of a session's current history, in several ways."""
    for number in range(60):
        store.add_user_message("before", f"harmless {number} " + "x" * 300)
        store.add_user_message("redacted", f"{SECRET} {number} " + "y" * 700)
    store.label("redacted", "said")
    store.edit_history("redacted", lambda history: history[-5:])
    store.rewind_session("redacted", "said")
    store.compact_session("redacted", "harmless summary", keep_last=0)
    store.add_user_message("redacted", "harmless")


def test_no_byte_of_a_purged_generation_is_left(tmp_path: Path) -> None:
    """Redacting and purging takes a text out of the files, and the conversation goes on."""
    with holdfast.connect(str(tmp_path / "a.db")) as store:
        redact(store)
        assert traces(tmp_path) != []
        purged = store.purge("redacted")
        assert (purged.generations, purged.messages) == (3, 125)
        assert purged.erasure == "done"
        assert traces(tmp_path) == []
        assert len(store.get_chat_history("redacted")) == 2
        assert store.verify()
    assert traces(tmp_path) == []


def test_many_sessions_are_purged_and_erased_together(tmp_path: Path) -> None:
    """Purging a whole tenant leaves no byte of any earlier generation."""
    with holdfast.connect(str(tmp_path / "a.db"), durability="relaxed") as store:
        for number in range(100):
            store.add_user_message(f"s{number}", f"{SECRET} {number} " + "y" * 700)
            store.set_chat_history(f"s{number}", [{"role": "user", "content": "-"}])
        purged = store.purge()
        assert (purged.sessions, purged.messages, purged.erasure) == (100, 100, "done")
        assert traces(tmp_path) == []
        assert store.verify()


def test_a_reader_delays_the_erasure_of_a_purge(tmp_path: Path) -> None:
    """The purge is done for every reader; its bytes go with the next chance, by whoever it is."""
    path = tmp_path / "a.db"
    with holdfast.connect(str(path)) as store:
        redact(store)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        assert store.purge("redacted").erasure == "pending"
        assert traces(tmp_path) != []
        assert store.purge("redacted").erasure == "none"
    reader.execute("COMMIT")
    reader.close()
    with holdfast.connect(str(path)) as store:
        store.add_user_message("before", "a later process")
        assert traces(tmp_path) == []
        assert len(store.get_chat_history("redacted")) == 2


@pytest.mark.parametrize("seed", range(4))
def test_no_purged_byte_is_left_whatever_the_pages_look_like(tmp_path: Path, seed: int) -> None:
    """Generations of many sizes, written by turns, leave nothing behind once they are purged."""
    chance = random.Random(seed)
    with holdfast.connect(str(tmp_path / "a.db"), durability="relaxed") as store:
        for _ in range(200):
            session = f"s{chance.randrange(8)}"
            store.add_user_message(session, "SECRET " * chance.randrange(1, 60))
            if chance.random() < 0.1:
                store.rewind_session(session, -1)
        for number in range(8):
            store.set_chat_history(f"s{number}", [{"role": "user", "content": "-"}])
        assert store.purge().erasure == "done"
        assert traces(tmp_path) == []
        assert store.verify()
