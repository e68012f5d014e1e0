"""Followers in another process than the turns that they follow."""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Iterable

import msgspec
import pytest

import holdfast
from holdfast.model.entry import DeltaEntry, Entry, MessageEntry, ResetEntry
from tests.turns.judging import completed, judge, judge_replies
from tests.turns.stage import Stage, report
from tests.turns.worker import SESSION

DISCONNECTS = 50
TURNS = 12
END = "The end."


def encoded(entries: Iterable[Entry]) -> bytes:
    """Return entries as bytes, a line each."""
    return b"\n".join(msgspec.json.encode([type(entry).__name__, entry]) for entry in entries)


def transcript(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Return what somebody sees who shows each entry as it comes."""
    messages: list[tuple[str, str]] = []
    streamed = ""
    reset_ends = 0
    for entry in entries:
        if isinstance(entry, ResetEntry):
            messages.clear()
            reset_ends = entry.last_revision
        elif isinstance(entry, DeltaEntry):
            streamed = streamed[: entry.offset] + entry.text
        elif isinstance(entry, MessageEntry):
            messages += [(m["role"], m["content"]) for m in entry.messages]
            if entry.turn is not None and entry.revision > reset_ends:
                streamed = ""
    return messages + ([("assistant", streamed)] if streamed else [])


class Reader:
    """Follows a session, and is disconnected again and again."""

    def __init__(self, url: str) -> None:
        self.seen: list[Entry] = []
        self.disconnects = 0
        self._url = url
        self._chance = random.Random(7)

    async def read(self) -> None:
        """Read until it is over, each time from where the last connection broke."""
        while not self._is_over():
            reading = asyncio.create_task(self._follow(self._chance.randrange(1, 6)))
            if self.disconnects % 2:
                await asyncio.wait([reading], timeout=self._chance.uniform(0, 0.1))
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self.disconnects += 1

    def _is_over(self) -> bool:
        last = self.seen[-1] if self.seen else None
        return isinstance(last, MessageEntry) and last.messages[-1]["content"] == END

    async def _follow(self, count: int) -> None:
        async with holdfast.connect_async(self._url) as store:
            entries = store.follow(SESSION, self.seen[-1].revision if self.seen else 0)
            while count and not self._is_over():
                self.seen.append(await anext(entries))
                count -= 1


def test_disconnects(url: str) -> None:
    """A follower that is disconnected fifty times sees, byte for byte, what the log holds."""
    with Stage(url) as stage:
        reader = Reader(stage.url)
        stage.store.create_session(SESSION)
        following = threading.Thread(target=lambda: asyncio.run(reader.read()))
        players = stage.enter_all("talk", ["a", "b"], TURNS, "wait", 30)
        following.start()
        for player in players:
            player.finish()
        stage.store.add_assistant_message(SESSION, END)
        following.join()
        entries = stage.entries()
        assert reader.disconnects >= DISCONNECTS
        assert encoded(reader.seen) == encoded(entries)
        # And no disconnect stopped a turn.
        assert judge(entries) == []
        assert judge_replies(entries) == []
        assert completed(entries) == 2 * TURNS


def test_resuming_from_every_revision(url: str) -> None:
    """From every revision that ever was, a follower comes to the same transcript, pruned or not."""
    with Stage(url) as stage:
        stage.enter("talk", "a", 3, "wait", 60).finish()
        holding = stage.enter("hold", "b")
        assert holding.hear() == "holding"
        stage.store.clear_session(SESSION)
        stage.store.add_user_message(SESSION, "aside")
        stage.store.interrupt(SESSION)
        assert [holding.hear(), holding.hear()] == ["stopped", "closed"]
        holding.tell("end")
        holding.finish()
        before = stage.entries()
        with stage.later() as later, later.turn(SESSION, "c:0") as turn:
            turn.write("At last.")
        after = stage.entries()
        assert sum(isinstance(entry, DeltaEntry) for entry in before) > 3
        kept = {entry.revision for entry in after}
        gone = [entry for entry in before if entry.revision not in kept]
        assert gone == [entry for entry in before if isinstance(entry, DeltaEntry)]
        last = after[-1].revision
        final = transcript(after)
        ever = {entry.revision: entry for entry in [*before, *after]}
        assert final == [(m["role"], m["content"]) for m in stage.store.get_messages(SESSION)]
        for revision in range(before[0].revision - 1, last):
            seen = [ever[number] for number in sorted(ever) if number <= revision]
            assert transcript([*seen, *_until(stage, revision, last)]) == final, revision


def _until(stage: Stage, revision: int, last: int) -> Iterable[Entry]:
    for entry in stage.store.follow(SESSION, revision):
        yield entry
        if entry.revision == last:
            return


@pytest.mark.alone
def test_latency(url: str) -> None:
    """What one process adds, a follower in another sees at once."""
    rounds = 40
    with Stage(url) as stage:
        stage.store.create_session(SESSION)
        worker = stage.enter("add")
        entries = stage.store.follow(SESSION)
        since_sent: list[float] = []
        since_durable: list[float] = []
        for _ in range(rounds):
            worker.tell("add")
            entry = next(entries)
            seen = time.monotonic_ns()
            sent, durable = map(int, worker.hear().split())
            assert isinstance(entry, MessageEntry)
            assert entry.messages[0]["content"] == str(sent)
            since_sent.append((seen - sent) / 1e6)
            since_durable.append((seen - durable) / 1e6)
        worker.tell("end")
        worker.finish()
    report("from sending to being seen elsewhere", since_sent)
    report("from being durable to being seen elsewhere", since_durable)
    assert statistics.median(since_sent) < 500
    assert sum(figure > 900 for figure in since_sent) <= 1, since_sent  # woken, not timed out
