"""Workers that are killed: at each point of a turn, and at random."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import holdfast
from holdfast.model.entry import Entry, TurnEntry
from holdfast.store.sources import Sources
from holdfast.testing.postgres import Server
from tests.stores import fewer
from tests.turns.judging import completed, judge, judge_replies
from tests.turns.stage import Player, Stage, later_ms, wait_for
from tests.turns.worker import SESSION, STEPS

CALL = ("assistant", "Let me look. Now.", None)
RESULT = ("tool", "noon", None)
PROMPT = ("user", "a:0", None)
LEFT: list[list[tuple[str, str, str | None]]] = [
    [],
    [PROMPT],
    [PROMPT, ("assistant", "Let me look. ", "interrupted")],
    [PROMPT, CALL],
    [PROMPT, CALL, RESULT],
    [PROMPT, CALL, RESULT, ("assistant", "It is ", "interrupted")],
    [PROMPT, CALL, RESULT, ("assistant", "It is noon. ", "interrupted")],
    [PROMPT, CALL, RESULT, ("assistant", "It is noon. ", "interrupted")],
    [PROMPT, CALL, RESULT, ("assistant", "It is noon. Bye.", None)],
]
"""The messages that are left when so many steps were committed."""

POINTS = [(number, moment) for number in range(1, 9) for moment in ("sent", "answered")]


def names(points: list[tuple[int, str]]) -> list[str]:
    """Return what to call the points of a turn."""
    return [f"{STEPS[number - 1]} {moment}" for number, moment in points]


def left(store: holdfast.SessionStore) -> list[tuple[str, Any, str | None]]:
    """Return what a session's messages say, and whether they were cut off."""
    return [
        (message["role"], message["content"], (message.get("metadata") or {}).get("state"))
        for message in store.get_messages(SESSION)
    ]


def reasons(entries: list[Entry]) -> list[str | None]:
    """Return why turns were interrupted."""
    return [entry.reason for entry in entries if isinstance(entry, TurnEntry) and entry.reason]


def opened_later(url: str) -> holdfast.SessionStore:
    """Return a store whose clock says that every lease has run out."""
    return holdfast.connect(url, sources=Sources(now_ms=later_ms))


Copy: TypeAlias = Callable[[str], str]


@pytest.fixture(params=["sqlite", "postgres"])
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Copy]]:
    """The address of a store, and what copies it under a name while nobody has it open."""
    if request.param == "sqlite":
        (tmp_path / "killed").mkdir()

        def copied(name: str) -> str:
            shutil.copytree(tmp_path / "killed", tmp_path / name)
            return str(tmp_path / name / "turns.db")

        yield str(tmp_path / "killed" / "turns.db"), copied
        return
    server: Server = request.getfixturevalue("server")
    made = ["killed"]

    def duplicated(name: str) -> str:
        server.execute(f"CREATE DATABASE {name} TEMPLATE killed")
        made.append(name)
        return server.url_for(name)

    yield server.create_database("killed"), duplicated
    for name in made:
        server.drop_database(name)


@pytest.mark.parametrize(("number", "moment"), POINTS, ids=names(POINTS))
def test_killed_at_each_point(original: tuple[str, Copy], number: int, moment: str) -> None:
    """A worker that is killed at any point of a turn leaves exactly what it had committed."""
    url, copied = original
    with Stage(url) as stage:
        worker = stage.enter("step", "a", number, moment)
        assert worker.hear() == "halted"
        worker.kill()
    done = number if moment == "answered" else number - 1
    recovered, taken_over = copied("one"), copied("two")
    is_open = 0 < done < len(STEPS)
    _is_recovered(recovered, done, closes=is_open)
    _is_taken_over(taken_over, done, closes=is_open)
    _is_repeated(url, done)


def _is_recovered(url: str, done: int, *, closes: bool) -> None:
    with opened_later(url) as store:
        seen: list[Entry] = store.read_entries(SESSION) if done else []
        assert store.recover() == closes
        assert store.recover() == 0
        if done:
            assert left(store) == LEFT[done]
            entries = store.read_entries(SESSION)
            assert judge(entries) == []
            assert reasons(entries) == ["crashed"] * closes
            # Whoever followed it sees its end.
            assert seen + store.read_entries(SESSION, seen[-1].revision) == entries
        assert store.verify().problems == []


def _is_taken_over(url: str, done: int, *, closes: bool) -> None:
    with opened_later(url) as store:
        with store.turn(SESSION, "b:0", on_busy="reject") as turn:
            turn.write("Yes.")
        assert left(store) == [*LEFT[done], ("user", "b:0", None), ("assistant", "Yes.", None)]
        entries = store.read_entries(SESSION)
        assert judge(entries) == []
        assert reasons(entries) == ["crashed"] * closes
        assert store.verify().problems == []


def _is_repeated(url: str, done: int) -> None:
    with opened_later(url) as store:
        with store.turn(SESSION, "a:0", key="k", on_busy="reject") as turn:
            assert turn.replayed == (done == len(STEPS))
            assert turn.attempt == (1 if done in (0, len(STEPS)) else 2)
            if not turn.replayed:
                turn.write("Again.")
        kept = LEFT[done] or [PROMPT]
        again = [] if turn.replayed else [("assistant", "Again.", None)]
        assert left(store) == kept + again
        assert judge(store.read_entries(SESSION)) == []
        assert store.verify().problems == []


@pytest.mark.parametrize("moment", ["sent", "answered"])
def test_killed_while_taking_over(url: str, moment: str) -> None:
    """Whoever is killed while it closes a dead worker's turn has closed it wholly or not at all."""
    with Stage(url) as stage:
        worker = stage.enter("step", "a", STEPS.index("last text") + 1, "answered")
        assert worker.hear() == "halted"
        worker.kill()
        with stage.later() as later:
            row = later._reading.live_row(SESSION)
            assert row is not None
            assert row.open_turn is not None
        second = stage.enter("take_over_later", "b", moment)
        assert second.hear() == "halted"
        second.kill()
        if moment == "sent":
            with stage.later() as later:
                assert later.recover() == 1
        else:
            assert stage.store.recover() == 1  # to this clock, the lease comes from the future
        expected = LEFT[6] + ([("user", "b:0", None)] if moment == "answered" else [])
        assert left(stage.store) == expected
        assert judge(stage.entries()) == []
        assert stage.store.verify().problems == []


def test_killed_at_random(url: str) -> None:
    """Workers that are killed at random and started again answer every prompt once, in order."""
    count, kills = fewer(url, 6), fewer(url, 12)
    chance = random.Random(1)
    with Stage(url) as stage:
        names = ["a", "b", "c"]
        players = {name: stage.enter("talk", name, count, "wait", 30) for name in names}
        for _ in range(kills):
            name = chance.choice(names)
            _let_them_write(stage, chance.randrange(3))
            players[name].kill()
            players[name] = stage.enter("talk", name, count, "wait", 30)
        for player in players.values():
            player.finish()
        entries = stage.entries()
        assert judge(entries) == []
        assert judge_replies(entries) == []
        assert completed(entries) == len(names) * count
        assert stage.store.verify().problems == []


def _let_them_write(stage: Stage, entries: int) -> None:
    begun = time.monotonic()
    before = len(stage.entries()) if stage.store.session_exists(SESSION) else 0
    wait_for(
        lambda: (
            stage.store.session_exists(SESSION)
            and (len(stage.entries()) >= before + entries or time.monotonic() > begun + 0.5)
        ),
        "writing",
    )


def test_killed_after_a_rewrite(url: str) -> None:
    """Text that was flushed before others rewrote the history is kept when its worker is killed."""
    with Stage(url) as stage:
        worker = stage.enter("hold")
        assert worker.hear() == "holding"
        stage.store.clear_session(SESSION)
        worker.kill()
        with stage.later() as later:
            assert later.recover() == 1
        (prompt, text) = left(stage.store)
        assert prompt == ("user", "go", None)
        assert text[1].startswith("half turn_")
        assert text[2] == "interrupted"
        assert judge(stage.entries()) == []


def test_a_follower_sees_the_end(url: str) -> None:
    """Whoever follows a turn whose worker is killed sees it closed with the text it was shown."""
    with Stage(url) as stage:
        worker: Player = stage.enter("hold", "a")
        assert worker.hear() == "holding"
        seen: list[Entry] = []
        recovered = False
        for entry in stage.store.follow(SESSION):
            seen.append(entry)
            if len(seen) == 3:  # its beginning, its prompt, its text
                worker.kill()
                with stage.later() as later:
                    recovered = later.recover() == 1
            if isinstance(entry, TurnEntry) and entry.reason is not None:
                break
        assert recovered
        assert judge(seen) == []
        assert seen == stage.entries()
        assert reasons(seen) == ["crashed"]
