"""Every kind of damage to a session's row or log is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from zlib import crc32

import pytest

from holdfast.model.commit import Purge
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import SessionRow
from holdfast.model.write import Write, WriteKind
from holdfast.rules.verification import Problem, SessionCheck
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from tests.rules.conversations import user

Log: TypeAlias = tuple[SessionRow, list[LogRow]]


@pytest.fixture(scope="module")
def sound() -> Log:
    """A session with appends, a rewrite that carried messages over, a title and metadata."""
    backend = MemoryBackend(Sources())
    store = SessionStore(Engine(backend, Sources()), "default", Sources(), 30)
    store.create_session("s", title="title", user_id="u", metadata={"a": 1})
    store.add_messages("s", [user("a"), user("b")])
    history = store.get_chat_history("s")
    store.add_messages("s", [user("c"), user("d")])
    store.rename_session("s", "another")
    history[0] = user("x")
    store.set_chat_history("s", history)
    store.add_message("s", "user", "e")
    read = backend.read_log("default", "s")
    assert read is not None
    return read.session, list(read.rows)


@pytest.fixture(scope="module")
def purged() -> Log:
    """A session of three generations, of which the first is purged."""
    times = iter(range(1_000_000))
    backend = MemoryBackend(Sources())
    sources = Sources(now_ms=lambda: next(times) * 1000)
    store = SessionStore(Engine(backend, sources), "default", sources, 30)
    store.create_session("s", title="title")
    store.add_messages("s", [user("a"), user("b")])
    store.rewind_session("s", -1)
    store.add_messages("s", [user("c")])
    floor = store.get_chat_history("s").revision - 2
    store.rewind_session("s", -1)
    commit = Write(tenant="default", session_id="s", kind=WriteKind.PURGE, floor=floor)
    assert backend.commit([commit]) == [Purge(1, 1, 2, "done")]
    read = backend.read_log("default", "s")
    assert read is not None
    return read.session, list(read.rows)


def check(session: SessionRow, rows: list[LogRow]) -> list[Problem]:
    """Walk a log, in two parts."""
    walk = SessionCheck(session)
    walk.walk(rows[:3])
    walk.walk(rows[3:])
    return walk.finish()


def test_sound(sound: Log) -> None:
    """A sound log has no problem, and everything in it is counted."""
    session, rows = sound
    assert [row.kind for row in rows] == [
        "meta",
        "message",
        "message",
        "meta",
        "reset",
        "message",
        "message",
        "message",
    ]
    walk = SessionCheck(session)
    walk.walk(rows)
    assert walk.finish() == []
    assert (walk.entries, walk.messages) == (8, 9)


@pytest.mark.parametrize("index", range(8))
def test_missing_entry(sound: Log, index: int) -> None:
    """An entry that is gone is found, wherever it stood and whatever it held."""
    session, rows = sound
    assert check(session, rows[:index] + rows[index + 1 :])


@pytest.mark.parametrize("index", range(8))
def test_changed_payload(sound: Log, index: int) -> None:
    """An entry whose payload changed is found and named, and hides no other one."""
    session, rows = sound
    changed = list(rows)
    damaged = rows[index].payload.replace(b'"', b"'", 1)
    changed[index] = rows[index]._replace(payload=damaged)
    problems = check(session, changed)
    assert [p.revision for p in problems if p.revision] == [rows[index].revision]


@pytest.mark.parametrize("index", range(8))
def test_changed_payload_and_checksum(sound: Log, index: int) -> None:
    """A payload that is no JSON is found, even with a checksum that fits it."""
    session, rows = sound
    changed = list(rows)
    changed[index] = rows[index]._replace(payload=b"{", checksum=crc32(b"{"))
    assert rows[index].revision in {problem.revision for problem in check(session, changed)}


@pytest.mark.parametrize("index", range(7))
def test_swapped_entries(sound: Log, index: int) -> None:
    """Revisions that do not rise are found."""
    session, rows = sound
    swapped = list(rows)
    swapped[index], swapped[index + 1] = rows[index + 1], rows[index]
    assert check(session, swapped)


def test_doubled_entry(sound: Log) -> None:
    """A message that stands twice is found, even with a revision of its own."""
    session, rows = sound
    again = rows[-1]._replace(revision=rows[-1].revision + 1)
    assert check(session._replace(revision=again.revision), [*rows, again])


def test_fewer_messages_in_an_entry(sound: Log) -> None:
    """A message that was cut out of its entry is found, even with a checksum that fits."""
    session, rows = sound
    changed = list(rows)
    payload = rows[1].payload.split(b"\n")[0]
    changed[1] = rows[1]._replace(payload=payload, checksum=crc32(payload))
    assert check(session, changed)


def test_another_kind(sound: Log) -> None:
    """An entry whose kind is unknown, or is another one's, is found."""
    session, rows = sound
    for kind in ("unknown", EntryKind.META.value, EntryKind.RESET.value):
        changed = list(rows)
        changed[2] = rows[2]._replace(kind=kind)
        assert check(session, changed)


ROWS: dict[str, Callable[[SessionRow], SessionRow]] = {
    "revision": lambda row: row._replace(revision=row.revision - 1),
    "history revision": lambda row: row._replace(history_revision=row.history_revision - 1),
    "base": lambda row: row._replace(base=row.base - 1),
    "message count": lambda row: row._replace(message_count=row.message_count + 1),
    "title": lambda row: row._replace(title="stranger's"),
    "user": lambda row: row._replace(user_id="stranger"),
    "agent": lambda row: row._replace(agent_name="stranger"),
    "metadata": lambda row: row._replace(meta='{"a":2}'),
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_changed_row(sound: Log, change: Callable[[SessionRow], SessionRow]) -> None:
    """A session's row that says something else than its log is found."""
    session, rows = sound
    assert check(change(session), rows)


def test_unfinished_rewrite(sound: Log) -> None:
    """A rewrite whose last entries are gone is found, though the row agrees with what is left."""
    session, rows = sound
    left = rows[:6]
    row = session._replace(
        revision=left[-1].revision, history_revision=left[-1].revision, message_count=2
    )
    assert "missing" in " ".join(problem.what for problem in check(row, left))


def test_purged(purged: Log) -> None:
    """A purged log is sound, though its first reset closed a generation that is gone."""
    session, rows = purged
    assert [row.kind for row in rows] == ["meta", "reset", "message", "message", "reset", "message"]
    assert session.floor == rows[1].revision
    assert check(session, rows) == []


@pytest.mark.parametrize("index", range(1, 6))
def test_missing_above_the_floor(purged: Log, index: int) -> None:
    """What is missing above the floor is found; the floor excuses nothing but what lies below."""
    session, rows = purged
    assert check(session, rows[:index] + rows[index + 1 :])


@pytest.mark.parametrize("floor", ["start", "last reset", "elsewhere", "above"])
def test_wrong_floor(purged: Log, floor: str) -> None:
    """A floor that is no reset, or not that of the oldest generation, is found."""
    session, rows = purged
    wrong = {
        "start": session.start,
        "last reset": rows[4].revision,
        "elsewhere": rows[2].revision,
        "above": session.revision + 1,
    }
    assert check(session._replace(floor=wrong[floor]), rows)


def test_left_below_the_floor(purged: Log, sound: Log) -> None:
    """A message below the floor, which should be gone, is found and named."""
    session, rows = purged
    left = rows[2]._replace(revision=session.start + 2, ordinal=0)
    problems = check(session, [rows[0], left, *rows[1:]])
    assert any(
        problem.revision == left.revision and "floor" in problem.what for problem in problems
    )
