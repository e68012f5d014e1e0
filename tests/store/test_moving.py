"""What may come between: other writers, other copies, damage, the end of the process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import holdfast
from holdfast import SessionStore
from holdfast.errors import OutcomeUnknown, Unavailable
from holdfast.model.moving import Moved, Phase, Progress, TroubleKind
from holdfast.model.write import KeyRow, Write
from holdfast.store.backend import Backend, LogRead, Outcome
from holdfast.store.connect import open_engine
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.moving import Moving
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for

TIMEOUT_S = 30.0


class Hooked(MemoryBackend):
    """A store in memory that lets others act in the middle of its calls for session "a"."""

    def __init__(self) -> None:
        super().__init__(Sources())
        self.hooks: dict[str, Callable[[], object]] = {}

    def read_keys(self, tenant: str, session_id: str, key: str | None = None) -> dict[str, KeyRow]:
        """Read, then let others act."""
        found = super().read_keys(tenant, session_id, key)
        self._let_others_act("read_keys", session_id)
        return found

    def read_log(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> LogRead | None:
        """Read, then let others act."""
        found = super().read_log(tenant, session_id, after=after, limit=limit)
        self._let_others_act("read_log", session_id)
        return found

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Commit, then let others act."""
        outcomes = super().commit(writes)
        self._let_others_act("commit", writes[0].session_id)
        return outcomes

    def _let_others_act(self, call: str, session_id: str) -> None:
        if session_id == "a" and call in self.hooks:
            self.hooks.pop(call)()


class Pair:
    """Two stores in memory with sessions "a" and "b" in the first."""

    def __init__(self) -> None:
        self.ours, self.theirs = Hooked(), Hooked()
        self.engine = Engine(self.theirs, Sources())
        self.source = SessionStore(Engine(self.ours, Sources()), "default", Sources(), TIMEOUT_S)
        self.target = SessionStore(self.engine, "default", Sources(), TIMEOUT_S)
        for name in ("a", "b"):
            self.source.add_user_message(name, "one")

    def run(self, watch: Callable[[Progress], None] = lambda _: None) -> Moved:
        """Copy the first into the second."""
        return Moving(self.ours, self.engine, watch=watch).run()


@pytest.fixture
def pair() -> Pair:
    """Two stores."""
    return Pair()


def said(store: SessionStore, session_id: str) -> list[object]:
    """What a session's messages say."""
    return [message["content"] for message in store.get_messages(session_id)]


def kinds(moved: Moved) -> dict[str, str]:
    """Which sessions have trouble, and of which kind."""
    return {trouble.session_id: trouble.kind for trouble in moved.troubles}


def test_a_writer_in_the_target(pair: Pair) -> None:
    """Who writes to a copy between the look at it and the commit is not overwritten."""
    pair.run()
    pair.source.add_user_message("a", "two")
    pair.theirs.hooks["read_keys"] = lambda: pair.target.add_user_message("a", "mine")
    assert kinds(pair.run()) == {"a": TroubleKind.CONFLICT}
    assert said(pair.target, "a") == ["one", "mine"]


def test_a_creator_in_the_target(pair: Pair) -> None:
    """A session that comes to be in the target just before the commit stays what it is."""
    pair.ours.hooks["read_log"] = lambda: pair.target.add_user_message("a", "mine")
    assert kinds(pair.run()) == {"a": TroubleKind.CONFLICT}
    assert (said(pair.target, "a"), said(pair.target, "b")) == (["mine"], ["one"])


def test_a_deletion_in_the_target(pair: Pair) -> None:
    """A copy that is deleted between the look at it and the commit is made anew, whole."""
    pair.run()
    pair.source.add_user_message("a", "two")
    pair.theirs.hooks["read_keys"] = lambda: pair.target.delete_session("a")
    assert pair.run()
    assert said(pair.target, "a") == ["one", "two"]


def test_a_successor_in_the_target(pair: Pair) -> None:
    """A session that took a copy's id between the look and the commit stays what it is."""
    pair.run()
    pair.source.add_user_message("a", "two")

    def succeed() -> None:
        pair.target.delete_session("a")
        pair.target.add_user_message("a", "mine")

    pair.theirs.hooks["read_keys"] = succeed
    assert kinds(pair.run()) == {"a": TroubleKind.CONFLICT}
    assert said(pair.target, "a") == ["mine"]


def test_two_copies_at_once(pair: Pair) -> None:
    """Two that copy the same at the same moment do it once."""
    pair.ours.hooks["read_log"] = pair.run
    moved = pair.run()
    assert (bool(moved), moved.copied, moved.unchanged) == (True, 0, 2)
    pair.source.add_user_message("a", "two")
    pair.ours.hooks["read_log"] = pair.run
    moved = pair.run()
    assert (bool(moved), moved.updated, moved.unchanged) == (True, 0, 2)
    assert (said(pair.target, "a"), said(pair.target, "b")) == (["one", "two"], ["one"])


def test_a_writer_in_the_source(pair: Pair) -> None:
    """What comes while it runs is said to be missing, and is copied by the next run."""

    def change() -> None:
        pair.source.add_user_message("a", "two")
        pair.source.add_user_message("new", "one")

    pair.ours.hooks["read_log"] = change
    moved = pair.run()
    assert kinds(moved) == {"a": TroubleKind.BEHIND, "new": TroubleKind.BEHIND}
    assert not moved
    assert pair.run()
    assert (said(pair.target, "a"), said(pair.target, "new")) == (["one", "two"], ["one"])


def test_a_deletion_in_the_source(pair: Pair) -> None:
    """A session that is deleted before it is read is not there, and that is no trouble."""
    pair.ours.hooks["read_log"] = lambda: pair.source.delete_session("b")
    moved = pair.run()
    assert (bool(moved), moved.copied, moved.checked) == (True, 1, 1)


def test_a_deletion_after_the_copy(pair: Pair) -> None:
    """A session that is deleted once it was copied is named: its copy would outlive it."""
    pair.theirs.hooks["commit"] = lambda: pair.source.delete_session("a")
    assert kinds(pair.run()) == {"a": TroubleKind.DELETED}


def test_a_target_that_is_lost(pair: Pair) -> None:
    """Whether a commit whose answer was lost happened or not, the next run does it once."""

    def lose() -> None:
        raise OutcomeUnknown("the connection was cut")

    pair.theirs.hooks["commit"] = lose
    with pytest.raises(OutcomeUnknown):
        pair.run()
    assert pair.run()
    pair.source.add_user_message("a", "two")
    pair.theirs.hooks["commit"] = lose
    with pytest.raises(OutcomeUnknown):
        pair.run()
    assert pair.run()
    assert said(pair.target, "a") == ["one", "two"]


def test_a_source_that_is_lost(pair: Pair) -> None:
    """A source that cannot be read any more is an error, not a session to be left out."""

    def lose() -> None:
        raise Unavailable("gone")

    pair.ours.hooks["read_log"] = lose
    with pytest.raises(Unavailable):
        pair.run()


def test_ctrl_c(pair: Pair) -> None:
    """Ctrl-C at any session leaves whole sessions, and the rest comes with the next run."""
    for number in range(5):
        pair.source.add_user_message(f"s{number}", "one")
    for stop in range(1, 7):

        def interrupt(progress: Progress, stop: int = stop) -> None:
            if progress.sessions == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pair.run(interrupt)
        assert pair.target.stats().sessions == stop
    moved = pair.run()
    assert (bool(moved), moved.copied, moved.unchanged) == (True, 1, 6)


def test_progress(pair: Pair) -> None:
    """Whoever watches is told the beginning and the end of both phases, and every session."""
    seen: list[Progress] = []
    pair.run(seen.append)
    assert [(one.phase, one.sessions, one.of_sessions) for one in seen] == [
        (phase, number, 2) for phase in (Phase.COPYING, Phase.CHECKING) for number in range(3)
    ]
    assert [one.entries for one in seen] == [0, 2, 4] * 2
    assert {one.of_entries for one in seen} == {4}


def file_backend(path: Path) -> Backend:
    """A file's backend, opened."""
    backend = backend_for(str(path), durability="full", timeout_s=TIMEOUT_S, sources=Sources())
    backend.open()
    return backend


def move(source: Path, target: Path) -> Moved:
    """Copy one file's sessions into another."""
    with (
        closing(file_backend(source)) as backend,
        closing(open_engine(target, "full", TIMEOUT_S, Sources(), migrate=True)) as engine,
    ):
        return Moving(backend, engine).run()


def change(path: Path, statement: str) -> None:
    """Change a file behind Holdfast's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


SPOIL = """UPDATE messages SET payload = replace(payload, 'spoilt', 'changed')
            WHERE kind = 'message' AND payload LIKE '%spoilt%'"""


def filled(path: Path) -> Path:
    """A file with three sessions."""
    with holdfast.connect(path) as store:
        for name in ("a", "spoilt", "c"):
            store.add_user_message(name, name)
    return path


def test_damage_in_the_source(tmp_path: Path) -> None:
    """A damaged session is named and left out, the others are copied; once repaired, it is too."""
    source, target = filled(tmp_path / "a.db"), tmp_path / "b.db"
    change(source, SPOIL)
    moved = move(source, target)
    assert (moved.copied, kinds(moved)) == (2, {"spoilt": TroubleKind.CORRUPT})
    assert "'spoilt' is damaged at entry" in moved.troubles[0].what
    change(
        source,
        SPOIL.replace("'spoilt', 'changed'", "'changed', 'spoilt'").replace("%spoilt", "%changed"),
    )
    moved = move(source, target)
    assert (bool(moved), moved.copied, moved.unchanged) == (True, 1, 2)
    with holdfast.connect(target) as store:
        assert [info.id for info in store.list_sessions()] == ["c", "spoilt", "a"]


@pytest.mark.parametrize("where", ["source", "target"])
def test_damage_after_the_copy(tmp_path: Path, where: str) -> None:
    """Damage to a session that is there already is found when the two are compared."""
    source, target = filled(tmp_path / "source.db"), tmp_path / "target.db"
    assert move(source, target)
    change(tmp_path / f"{where}.db", SPOIL)
    moved = move(source, target)
    assert (moved.unchanged, kinds(moved)) == (3, {"spoilt": TroubleKind.CORRUPT})
    assert moved.troubles[0].what.startswith(f"in the {where} it is damaged: entry ")


def test_another_log(tmp_path: Path) -> None:
    """A sound copy that says something else is found too."""
    source, target = filled(tmp_path / "a.db"), tmp_path / "b.db"
    assert move(source, target)
    with holdfast.connect(tmp_path / "c.db") as store:
        store.add_user_message("spoilt", "other")
    with closing(sqlite3.connect(tmp_path / "c.db")) as other:
        payload, crc = other.execute("SELECT payload, crc FROM messages").fetchone()
    with closing(sqlite3.connect(target)) as connection, connection:
        connection.execute(
            "UPDATE messages SET payload = ?, crc = ? WHERE payload LIKE '%spoilt%'", (payload, crc)
        )
    assert kinds(move(source, target)) == {"spoilt": TroubleKind.DIFFERENT}


def test_a_source_from_a_backup(tmp_path: Path) -> None:
    """A source that was put back to an earlier state takes nothing away from the target."""
    source, target, backup = filled(tmp_path / "a.db"), tmp_path / "b.db", tmp_path / "backup.db"
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(backup)) as other:
        one.backup(other)
    with holdfast.connect(source) as store:
        store.add_user_message("a", "two")
    assert move(source, target)
    assert kinds(move(backup, target)) == {"a": TroubleKind.CONFLICT}
    with holdfast.connect(backup) as store:
        store.add_user_message("a", "something else")
        store.add_user_message("a", "and more")
    assert kinds(move(backup, target)) == {"a": TroubleKind.DIFFERENT}
    with holdfast.connect(target) as store:
        assert said(store, "a")[:2] == ["a", "two"]


WORKER = """
    import sys
    from holdfast.store.connect import open_engine
    from holdfast.store.moving import Moving
    from holdfast.store.sources import Sources
    from holdfast.store.urls import backend_for

    source = backend_for(sys.argv[1], durability="full", timeout_s=30, sources=Sources())
    source.open()
    target = open_engine(sys.argv[2], "full", 30, Sources(), migrate=True)

    def watch(progress):
        print(progress.phase, progress.sessions, flush=True)
        if progress.sessions == int(sys.argv[3]):
            sys.stdin.read()  # forever

    Moving(source, target, watch=watch).run()
"""


def kill(source: Path, target: Path, lines: int, wait_at: int = -1) -> None:
    """Copy in a process that is killed once it has said so much."""
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(source), str(target)]
    with subprocess.Popen(
        [*command, str(wait_at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        process.stdout.read()


def test_kill(tmp_path: Path) -> None:
    """A process that is killed again and again, anywhere, gets everything across, once."""
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with holdfast.connect(source, durability="relaxed") as store:
        for number in range(60):
            name = f"s{number}"
            messages = [{"role": "user", "content": f"{number}.{n}" * 50} for n in range(40)]
            store.add_messages(name, messages, key=f"k{number}")
            store.set_chat_history(name, store.get_chat_history(name)[1:])
        before = {info.id: said(store, info.id) for info in store.list_sessions(100)}
    reached: list[int] = []
    for lines, wait_at in ((6, 5), (2, -1), (21, -1), (50, -1), (70, -1)):
        kill(source, target, lines, wait_at)
        with holdfast.connect(target) as store:
            assert store.verify()
            reached.append(store.stats().sessions)
            for info in store.list_sessions(100):
                assert said(store, info.id) == before[info.id]
    assert reached[0] == 5
    assert reached == sorted(reached)
    moved = move(source, target)
    assert (bool(moved), moved.copied + moved.unchanged, moved.updated) == (True, 60, 0)
    with holdfast.connect(source) as ours, holdfast.connect(target) as theirs:
        assert [i.id for i in theirs.list_sessions(100)] == [i.id for i in ours.list_sessions(100)]
        assert theirs.stats().messages == ours.stats().messages
        assert theirs.add_messages("s7", [{"role": "user", "content": "x"}], key="k7").replayed
