"""How many connections many processes have."""

from __future__ import annotations

from pathlib import Path

import psycopg

import holdfast
from tests.races.race import Race
from tests.races.worker import SESSION
from tests.stores import server_of
from tests.turns.stage import wait_for

PROCESSES = 20
MOST = 4


def test_twenty_workers(schema: str, tmp_path: Path) -> None:
    """Twenty processes that write, read and follow on nine threads each have 80 connections."""
    most = 0

    def are_all_there() -> bool:
        nonlocal most
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"
        ).fetchone()
        assert found is not None
        most = max(most, found[0])
        return bool(most > (PROCESSES - 1) * MOST)

    with Race(schema, tmp_path) as race, psycopg.connect(server_of(schema)) as connection:
        connection.autocommit = True
        race.store.add_user_message(SESSION, "first")
        race.store.close()
        workers = race.enter("be_many", processes=PROCESSES, count=2)
        race.go()
        wait_for(are_all_there)
        race.stop()
        with holdfast.connect(schema) as store:
            store.add_user_message(SESSION, "last")
        for worker in workers:
            worker.finish()
            are_all_there()
    assert most <= PROCESSES * MOST
