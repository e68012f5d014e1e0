"""Searching while others write, and while others fill the same index."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.races.race import Race

MESSAGES = 2_500


def _missed(folder: Path, role: str) -> list[str]:
    """Return what searchers did not find though it was acknowledged, beside two who rewrite."""
    with Race(folder) as race:
        race.store.add_message("race", "system", "begin")
        searchers = race.enter(role, processes=2, count=60)
        editors = race.enter("edit", processes=2)
        race.go()
        missed = [line for searcher in searchers for line in searcher.finish()]
        race.stop()
        for editor in editors:
            editor.finish()
        assert not race.tally(searchers).harmed
        check_index(race)
        return missed


def check_index(race: Race) -> None:
    """Fail unless the index is sound and holds each message once."""
    connection = sqlite3.connect(race.path, isolation_level=None)
    try:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
        rows = connection.execute("SELECT rowid FROM search ORDER BY rowid").fetchall()
        assert rows == connection.execute("SELECT id FROM searched_messages").fetchall()
    finally:
        connection.close()
    assert race.store.verify().problems == []


def test_planted_fault(tmp_path: Path) -> None:
    """The race is one: who looks into the index alone misses what was rewritten meanwhile."""
    assert _missed(tmp_path, "add_and_search_in_the_index")


def test_what_was_acknowledged_is_found(tmp_path: Path) -> None:
    """Every message is found right after it was acknowledged, whatever others rewrite."""
    assert _missed(tmp_path, "add_and_search") == []


def test_searching_while_others_add(tmp_path: Path) -> None:
    """Of searches beside writers each finds what the one before found, and nothing twice."""
    with Race(tmp_path) as race:
        adders = race.enter("add", processes=2, count=200)
        searchers = race.enter("search", processes=2)
        race.go()
        for adder in adders:
            adder.finish()
        race.stop()
        for searcher in searchers:
            (line,) = searcher.finish()
            assert int(line.split()[1]) > 5
        assert len(race.store.search("add*", limit=1000)) == 400
        check_index(race)


def test_several_fill_one_index(tmp_path: Path) -> None:
    """Processes that search a store that nobody has indexed find all of it, and index it once."""
    with Race(tmp_path) as race:
        for session in range(5):
            race.store.set_chat_history(
                f"s{session}", [{"role": "user", "content": f"said {n}"} for n in range(200)]
            )
        for number in range(MESSAGES - 1000):
            race.store.add_user_message("race", f"said {number}")
        searchers = race.enter("search_once", processes=4)
        race.go()
        assert [searcher.finish() for searcher in searchers] == [[f"found {MESSAGES}"]] * 4
        assert len(race.store.search("said", limit=10_000)) == MESSAGES
        check_index(race)
