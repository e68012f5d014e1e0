"""Batches at random against a log in memory: wherever messages stand, SQLite answers the same."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.commit import Deletion
from holdfast.model.message import Message
from holdfast.model.search import Search
from holdfast.model.turn import Holding, Opened, Opening
from holdfast.model.usage import TurnStatus
from holdfast.model.write import Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.partial import turn_entry
from holdfast.rules.search import parse_query
from holdfast.store.backend import Backend, Listing, Outcome
from holdfast.store.copying import Copying
from holdfast.store.memory import MemoryBackend
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources
from holdfast.store.sqlite import arrivals
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import Database
from holdfast.store.walking import Walking
from holdfast.store.writing import Writing

BATCHES = 100
SEARCHES = 0.2
TENANTS = ("one", "two")
IDS = ("a", "b", "c", "d", "e")
WORDS = ("apple", "berry", "cherry")
SIZES = {
    "FEWEST_SESSIONS": (1, 1, 1, 2, 100),
    "MOST_ENTRIES": (1, 3, 8, 20),
    "LEAVING": (1, 2, 5),
    "TOGETHER": (1, 2, 16),
    "LARGE_BYTES": (400, 4096),
}


class Frail(sqlite3.Connection):
    """A connection on which a statement fails, so many statements from now."""

    left = 0

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement of a batch, unless it is the one that is to fail."""
        if self.in_transaction and sql not in ("COMMIT", "ROLLBACK"):
            Frail.left -= 1
            if Frail.left == 0:
                raise sqlite3.OperationalError("as the test wants it")
        return super().execute(sql, parameters)


def frail(path: str) -> sqlite3.Connection:
    """Open a `Frail` connection, as the backend opens its own."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Frail)


class Batches:
    """Writes at random, as callers plan them who all read before any of them is committed."""

    def __init__(self, chance: random.Random, memory: MemoryBackend, sources: Sources) -> None:
        self.chance = chance
        self.turns: list[tuple[Write, Opened]] = []
        self._memory = memory
        self._sources = sources
        self._said = count()
        self._read = {tenant: Reading(memory, tenant) for tenant in TENANTS}
        self._kinds: dict[Callable[[str, str], Sequence[Write]], int] = {
            self.add: 30,
            self.add_many: 2,
            self.save: 4,
            self.edit: 5,
            self.clear: 2,
            self.label: 2,
            self.rewind: 3,
            self.fork: 3,
            self.compact: 3,
            self.purge: 2,
            self.delete: 2,
            self.restore: 2,
            self.open: 5,
            self.close: 4,
            self.index: 3,
        }

    def some(self) -> list[Write]:
        """Return the next batch, without what is refused while it is planned."""
        chance = self.chance
        found: list[Write] = []
        for _ in range(chance.choice((1, 1, 2, 4, 8, 16))):
            kind = chance.choices([*self._kinds], [*self._kinds.values()])[0]
            try:
                found += kind(chance.choice((*TENANTS, "one")), chance.choice(IDS))
            except HoldfastError:
                continue
        return found

    def add(self, tenant: str, name: str) -> list[Write]:
        """Add messages, sometimes with a key that was used before."""
        key = self.chance.choice((None, None, None, "k", "l"))
        return [self._writing(tenant).add(name, self._messages(), path="messages[{}]", key=key)]

    def add_many(self, tenant: str, name: str) -> list[Write]:
        """Add to one session again and again."""
        return [self.add(tenant, name)[0] for _ in range(self.chance.randrange(2, 12))]

    def save(self, tenant: str, name: str) -> list[Write]:
        """Replace a history."""
        return [self._writing(tenant).save(name, self._messages()).write]

    def edit(self, tenant: str, name: str) -> list[Write]:
        """Append to a history, or rewrite it."""
        history = self._read[tenant].history(name)
        del history[: self.chance.randrange(2)]
        history.extend(self._messages())
        return [self._writing(tenant).save(name, history).write]

    def clear(self, tenant: str, name: str) -> list[Write]:
        """Begin an empty history."""
        return [self._writing(tenant).clear(name)]

    def label(self, tenant: str, name: str) -> list[Write]:
        """Name a revision."""
        revision = self._read[tenant].revision(name, self._point(tenant, name))
        return [self._writing(tenant).label(name, "l", revision)]

    def rewind(self, tenant: str, name: str) -> list[Write]:
        """Make a history what it was."""
        return [self._copying(tenant).rewind(name, self._point(tenant, name))]

    def fork(self, tenant: str, name: str) -> list[Write]:
        """Begin a session with another's history."""
        new = self.chance.choice(IDS)
        return [self._copying(tenant).fork(name, new, self._point(tenant, name))]

    def compact(self, tenant: str, name: str) -> list[Write]:
        """Put a summary in the place of most."""
        keep = self.chance.randrange(4)
        return [self._copying(tenant).compact(name, "apple", keep_last=keep, base=None)]

    def purge(self, tenant: str, name: str) -> list[Write]:
        """Destroy earlier generations."""
        since = self.chance.choice((None, self._sources.now_ms() - 500))
        floors = Walking(self._memory, self._read[tenant], tenant).floors(name, since)
        return [self._writing(tenant).purge(*each) for each in floors]

    def delete(self, tenant: str, name: str) -> list[Write]:
        """Delete a session, which may be there again soon."""
        return [self._writing(tenant).delete(name)]

    def restore(self, tenant: str, name: str) -> list[Write]:
        """Import what was exported."""
        text = Walking(self._memory, self._read[tenant], tenant).export(name)
        return [self._copying(tenant).restore(text, self.chance.choice(IDS))]

    def open(self, tenant: str, name: str) -> list[Write]:
        """Open a turn, or repeat one."""
        turn = Opening(turn=f"turn_{self._sources.new_id()}", worker="w", ttl_ms=400)
        entries, key = self.add(tenant, name)[0].entries, self.chance.choice((None, "m"))
        kind = WriteKind.TURN
        return [
            Write(tenant=tenant, session_id=name, kind=kind, entries=entries, key=key, turn=turn)
        ]

    def close(self, *_: str) -> list[Write]:
        """Close a turn that was opened."""
        if not self.turns:
            return []
        opening, opened = self.turns.pop(self.chance.randrange(len(self.turns)))
        tenant, name = opening.tenant, opening.session_id
        status = self.chance.choice((TurnStatus.COMPLETED, TurnStatus.FAILED))
        said = [
            new.within(opened.turn, opened.attempt) for new in self.add(tenant, name)[0].entries
        ]
        entries = (*said, turn_entry(opened.turn, opened.attempt, status))
        turn = Holding(token=opened.token, turn=opened.turn, attempt=opened.attempt, status=status)
        return [
            Write(tenant=tenant, session_id=name, kind=WriteKind.TURN, entries=entries, turn=turn)
        ]

    def index(self, tenant: str, _: str) -> list[Write]:
        """Fill the search index."""
        return [Write(tenant=tenant, session_id="", kind=WriteKind.INDEX)]

    def _writing(self, tenant: str) -> Writing:
        return Writing(self._read[tenant], tenant, self._sources)

    def _copying(self, tenant: str) -> Copying:
        return Copying(self._read[tenant], tenant, self._sources)

    def _messages(self) -> list[Message]:
        chance = self.chance
        size = chance.choice((0, 0, 0, 600, 5000))
        text = f"{next(self._said)} {chance.choice(WORDS)} {'x' * size}"
        return [{"role": "user", "content": text}] * chance.choice((1, 1, 1, 2, 3))

    def _point(self, tenant: str, name: str) -> int | str:
        read = self._memory.read_log(tenant, name)
        known = [row.revision for row in read.rows] if read else []
        points: list[int | str] = [-1, -2, "l", *known[-6:]]
        return self.chance.choice(points)


class Both:
    """A log in memory, and one in a file with two writers: two processes, as far as it knows."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_ms = 1_700_000_000_000
        numbers = count(1)
        sources = Sources(now_ms=lambda: self.now_ms, new_id=lambda: f"{next(numbers):016x}")
        self.memory = MemoryBackend(sources)
        self.batches = Batches(self.chance, self.memory, sources)
        database = Database(path, "relaxed", 5.0, frail)
        self.files = [SqliteBackend(database, sources) for _ in range(2)]
        for each in self.files:
            each.open()

    def commit(self, writes: Sequence[Write], *, fails_after: int) -> None:
        """Commit to the file, of which a statement may fail, and what was written to memory."""
        file = self.chance.choice(self.files)
        assert file.admit(wait=True)
        Frail.left = fails_after
        try:
            outcomes = file.commit(writes)
        except Unavailable:
            return
        finally:
            Frail.left = 0
            file.leave()
        done = [pair for pair in zip(writes, outcomes, strict=True) if not _failed(pair[1])]
        expected = self.memory.commit([write for write, _ in done])
        assert [_told(o) for _, o in done] == [_told(outcome) for outcome in expected]
        opened = [(w, o) for w, o in done if isinstance(o, Opened) and not o.replayed]
        self.batches.turns += opened

    def agree(self, writes: Sequence[Write]) -> None:
        """Hold that both answer the same about what was written to, and of each tenant."""
        file, memory = self.chance.choice(self.files), self.memory
        for tenant in TENANTS:
            listed = [each._replace(rank=0) for each in file.list_sessions(Listing(tenant, 10))]
            same = [each._replace(rank=0) for each in memory.list_sessions(Listing(tenant, 10))]
            assert listed == same
            assert _counted(file, tenant) == _counted(memory, tenant)
            word = parse_query(self.chance.choice(WORDS))
            wanted = Search(tenant=tenant, query=word, user_id=None, limit=1000)
            if self.chance.random() < SEARCHES:
                found = sorted(map(repr, file.search(wanted)))
                assert found == sorted(map(repr, memory.search(wanted)))
        for tenant, name in {(write.tenant, write.session_id): 0 for write in writes}:
            self._agree_on(file, tenant, name)

    def _agree_on(self, file: Backend, tenant: str, name: str) -> None:
        ours, theirs = file.read_log(tenant, name), self.memory.read_log(tenant, name)
        if ours is None or theirs is None:
            assert ours is theirs
            return
        # A rank may be used again after others were deleted.
        assert ours.session._replace(rank=0) == theirs.session._replace(rank=0)
        assert list(ours.rows) == list(theirs.rows)
        assert file.read_keys(tenant, name) == self.memory.read_keys(tenant, name)
        assert _counted(file, tenant, name) == _counted(self.memory, tenant, name)
        self._histories_agree(file, tenant, name, None)
        read = [ours.session.base, *(row.revision for row in ours.rows)]
        for at in self.chance.choices(read, k=2):
            limit = self.chance.randrange(1, 4)
            some = file.read_log(tenant, name, after=at, limit=limit)
            same = self.memory.read_log(tenant, name, after=at, limit=limit)
            assert (some and list(some.rows)) == (same and list(same.rows))
            if at >= ours.session.floor:
                self._histories_agree(file, tenant, name, at)

    def _histories_agree(self, file: Backend, tenant: str, name: str, at: int | None) -> None:
        whole = self.memory.read_history(tenant, name, at=at)
        assert whole is not None
        said = codec.split_lines(whole.payloads)
        for last in (None, 1, 3):
            read = file.read_history(tenant, name, at=at, last=last)
            assert read is not None
            assert read.revision == whole.revision
            lines = codec.split_lines(read.payloads)
            assert len(lines) >= (len(said) if last is None else min(last, len(said)))
            assert lines == said[len(said) - len(lines) :]
            assert read.complete == (len(lines) == len(said))


def _failed(outcome: Outcome) -> bool:
    return isinstance(outcome, Unavailable)


def _told(outcome: Outcome) -> object:
    """What both have to answer: only one has bytes to be erased, or an index."""
    if isinstance(outcome, Deletion):
        return outcome.existed
    return repr(outcome).split("erasure")[0].split("Indexed")[0]


def _counted(backend: Backend, tenant: str, name: str | None = None) -> tuple[int, ...]:
    found = backend.count(tenant, name)
    return found.sessions, found.messages, found.entries, found.generations


def _mixed(path: Path) -> bool:
    """Whether the queue holds copies and what stands there alone."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT DISTINCT m.revision IS NULL FROM arrivals LEFT JOIN messages m USING (revision)"
        ).fetchall()
    return len(found) == 2


@pytest.mark.parametrize("seed", range(3))
def test_nobody_can_tell(path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whatever is written together, fails or is deleted, reads are those of a plain log."""
    both = Both(path, seed)
    chance, mixed = both.chance, 0
    with ExitStack() as closing_all:
        for file in both.files:
            closing_all.callback(file.close)
        for number in range(BATCHES):
            for name, sizes in SIZES.items():
                if number % 10 == 0 or name == "FEWEST_SESSIONS":
                    monkeypatch.setattr(arrivals, name, chance.choice(sizes))
            both.now_ms += chance.choice((0, 1, 300, 90_000))
            writes = both.batches.some()
            both.commit(writes, fails_after=chance.choice((0, 0, 0, 0, 10, 20)))
            both.agree(writes)
            mixed += _mixed(path)
        assert mixed > BATCHES / 10
        assert both.files[0].check() == []
