"""Searching while others write, and while others fill the same index."""

from __future__ import annotations

import sqlite3

import psycopg

from tests.races.race import Race
from tests.stores import fewer, is_postgres, schema_of, server_of

SESSIONS = 5
LENGTH = 200
MESSAGES = 1_500


def _missed(race: Race, role: str) -> list[str]:
    """Return what searchers did not find though it was acknowledged, beside two who rewrite."""
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
    if is_postgres(race.url):
        _check_index_on_a_server(race)
    else:
        _check_index_in_a_file(race)
    assert race.store.verify().problems == []


def _check_index_in_a_file(race: Race) -> None:
    connection = sqlite3.connect(race.url, isolation_level=None)
    try:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
        rows = connection.execute("SELECT rowid FROM search ORDER BY rowid").fetchall()
        assert rows == connection.execute("SELECT id FROM searched_messages").fetchall()
    finally:
        connection.close()


def _check_index_on_a_server(race: Race) -> None:
    race.store.search("what is new is indexed by this")
    counts = """SELECT (SELECT count(*) FROM {0}.searched), sum(indexed_messages),
                       sum(message_count) FROM {0}.sessions""".format(schema_of(race.url))
    with psycopg.connect(server_of(race.url)) as connection:
        row = connection.execute(counts.encode()).fetchone()
    assert row is not None
    assert row[0] == row[1] == row[2]


def test_planted_fault(race: Race) -> None:
    """The race is one: who looks into the index alone misses what was rewritten meanwhile."""
    assert _missed(race, "add_and_search_in_the_index")


def test_what_was_acknowledged_is_found(race: Race) -> None:
    """Every message is found right after it was acknowledged, whatever others rewrite."""
    assert _missed(race, "add_and_search") == []


def test_searching_while_others_add(race: Race) -> None:
    """Of searches beside writers each finds what the one before found, and nothing twice."""
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


def test_several_fill_one_index(race: Race) -> None:
    """Processes that search a store that nobody has indexed find all of it, and index it once."""
    for session in range(SESSIONS):
        race.store.set_chat_history(
            f"s{session}", [{"role": "user", "content": f"said {n}"} for n in range(LENGTH)]
        )
    count = fewer(race.url, MESSAGES)
    for number in range(count):
        race.store.add_user_message("race", f"said {number}")
    searchers = race.enter("search_once", processes=4)
    race.go()
    count += SESSIONS * LENGTH
    assert [searcher.finish() for searcher in searchers] == [[f"found {count}"]] * 4
    assert len(race.store.search("said", limit=10_000)) == count
    check_index(race)
