"""Batches on PostgreSQL: what shares a round trip comes to what the rules say of each write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from contextlib import closing

import pytest
from msgspec.structs import replace

from holdfast.errors import HoldfastError
from holdfast.model.entry import EntryKind
from holdfast.model.turn import Holding, Opened, Opening
from holdfast.model.usage import TurnStatus
from holdfast.model.write import Creation, Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.partial import delta_entry, turn_entry
from holdfast.store.backend import Backend, Outcome
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from holdfast.testing.postgres import Server

MADE = ("a", "b", "c")
SESSIONS = (*MADE, "d")
BATCHES = 80
TENANT = "default"


class Scribe:
    """Makes writes that a server may do by itself, under conditions that hold or do not."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._numbers = itertools.count(1)
        self.known: dict[str, int] = {}  # a revision of each session
        self.turns: dict[str, Opened] = {}

    def batch(self) -> list[Write]:
        """Return some writes."""
        return [self._write(self._pick(*SESSIONS)) for _ in range(self._chance.randint(1, 9))]

    def learn(self, writes: Sequence[Write], outcomes: Sequence[Outcome]) -> None:
        """Take note of turns that were opened."""
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Opened):
                self.turns[write.session_id] = outcome

    def _pick(self, *choices: str) -> str:
        return self._chance.choice(choices)

    def _write(self, session_id: str) -> Write:
        turn = self.turns.get(session_id)
        if turn is not None and self._chance.random() < 0.5:
            return self._in_turn(session_id, turn)
        if self._chance.random() < 0.1:
            opening = Opening(turn=f"turn_{next(self._numbers)}", worker="w", ttl_ms=30_000)
            return self._made(session_id, WriteKind.TURN, turn=opening)
        key = self._pick("", "", "k1", "k2", f"k{next(self._numbers)}") or None
        known = self._chance.choice((None, None, None, 0, self.known.get(session_id)))
        if self._chance.random() < 0.5:
            return self._made(session_id, WriteKind.ADD, key=key, expected_revision=known)
        return self._made(session_id, WriteKind.SAVE, key=key, base_revision=known)

    def _in_turn(self, session_id: str, opened: Opened) -> Write:
        place = (opened.turn, opened.attempt)
        status = self._chance.choice((TurnStatus.RUNNING, TurnStatus.RUNNING, TurnStatus.COMPLETED))
        holding = Holding(
            token=opened.token, turn=opened.turn, attempt=opened.attempt, status=status
        )
        write = self._made(session_id, WriteKind.TURN, turn=holding, creation=Creation.FORBIDDEN)
        entries = [new.within(*place) for new in write.entries]
        if self._chance.random() < 0.5:
            entries = [delta_entry(*place, 0, 0, "shown")]
        if status is TurnStatus.COMPLETED:
            entries.append(turn_entry(*place, status))
        return replace(write, entries=tuple(entries))

    def _made(self, session_id: str, kind: WriteKind, **more: object) -> Write:
        lines = [
            f'{{"role":"user","content":"n{next(self._numbers)}"}}'.encode()
            for _ in range(self._chance.randint(0, 2))
        ]
        entries = (codec.new_entry(EntryKind.MESSAGE, lines),) if lines else ()
        plain = Write(tenant=TENANT, session_id=session_id, kind=kind, entries=entries)
        return replace(plain, **more)


@pytest.mark.parametrize("seed", range(6))
def test_a_batch_is_what_its_writes_are(server: Server, seed: int) -> None:
    """Batches of appends have the outcomes and leave the log that the rules say, in memory."""
    ticks = itertools.count(1_700_000_000_000)
    now = next(ticks)
    sources = Sources(now_ms=lambda: now)
    url = f"{server.url}?schema=batches_{seed}"
    theirs = backend_for(url, durability="full", timeout_s=30, sources=sources)
    ours = MemoryBackend(sources)
    scribe = Scribe(seed)
    with closing(theirs):
        theirs.open()
        for write in [
            Write(tenant=TENANT, session_id=name, kind=WriteKind.CREATE) for name in MADE
        ]:
            assert ours.commit([write]) == theirs.commit([write])
        for _ in range(BATCHES):
            now = next(ticks)
            writes = scribe.batch()
            wanted, found = ours.commit(writes), theirs.commit(writes)
            assert list(map(_comparable, found)) == list(map(_comparable, wanted)), writes
            scribe.learn(writes, wanted)
            for name in SESSIONS:
                log = ours.read_log(TENANT, name)
                assert _without_rank(theirs, name) == _without_rank(ours, name)
                if log is not None:
                    scribe.known[name] = log.session.revision


def _comparable(outcome: Outcome) -> object:
    return (type(outcome), str(outcome)) if isinstance(outcome, HoldfastError) else outcome


def _without_rank(backend: Backend, name: str) -> object:
    found = backend.read_log(TENANT, name)
    return found and (found.session._replace(rank=0), list(found.rows))
