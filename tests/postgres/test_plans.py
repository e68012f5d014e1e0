"""On 100,000 sessions no statement that is asked often scans a table or sorts a large set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
import pytest

import holdfast
from holdfast import SessionStore
from holdfast.errors import NotSupported
from holdfast.store.backend import Listing
from holdfast.store.postgres.arrays import learn_arrays, texts
from holdfast.store.postgres.calls import call, text
from holdfast.store.postgres.connections import connect, parse_address
from holdfast.store.postgres.queries import calls, queries
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from holdfast.testing.postgres import Server
from tests.postgres.filling import TENANT, analyze, put
from tests.postgres.recording import Asked, recording, run_plan
from tests.postgres.roles import printed, run, with_user
from tests.postgres.test_locks import clear
from tests.postgres.writing import write

COUNT = 100_000
ROLE = "planned"

OF_EVERYTHING = {"count_sessions", "count_messages", "count_activity", "usages", "size", "tenants"}
"""They are about all there is, for `stats` and for copying a store: nobody asks them often."""

NOTHING_TO_FIND = {
    "set_tenant",
    "now",
    "new_key",
    "loose_commit",
    "only_indexes",
    "no_sorts",
    "insert_messages",
    "insert_activity",
}

INDEX_ALONE = {"count_indexed"}
"""Reads one index from end to end, and of the table what was not vacuumed; it is asked seldom."""

FUNCTIONS: dict[str, tuple[int, int, Callable[[str], bytes | None]]] = {
    "commit": (18, 19, lambda word: texts([word])),
    "append": (6, 7, text),
}
"""Of the statements that call a function: where its keys and ids stand, and how one is sent."""

LARGE_SORT = 1_000
IN_VAIN = 200
BLOCKS = 400
"""A table of sessions has over 3,000 pages; what reads 1,000 of its rows, or keys, reads these."""

HOT = sorted(set(queries("holdfast")) - OF_EVERYTHING - NOTHING_TO_FIND - set(FUNCTIONS))


class Seen(NamedTuple):
    """What a role's store has asked for, and a connection of that role for asking again."""

    asked: list[Asked]
    url: str
    connection: psycopg.Connection[Any]


@pytest.fixture(scope="module")
def never_touched(server: Server) -> Iterator[str]:
    """The name of a database with many sessions, to be copied: that takes a tenth of filling it."""
    url = server.create_database("filled")
    holdfast.connect(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        put(connection, "holdfast", COUNT)
    yield "filled"
    server.drop_database("filled")


@pytest.fixture(scope="module", params=["analyzed", "never analyzed"])
def filled(request: pytest.FixtureRequest, server: Server, never_touched: str) -> Iterator[str]:
    """A database with many sessions, of which PostgreSQL has statistics or has not."""
    server.execute(f"CREATE DATABASE plans TEMPLATE {never_touched}")
    url = server.url_for("plans")
    if request.param == "analyzed":
        with psycopg.connect(url, autocommit=True) as connection:
            analyze(connection, "holdfast")
    yield url
    server.drop_database("plans")


@pytest.fixture(scope="module")
def role_url(server: Server, filled: str) -> Iterator[str]:
    """Its address for a role that row-level security applies to."""
    server.create_role(ROLE)
    run(filled, printed(filled, role=ROLE))
    yield with_user(filled, ROLE)
    run(filled, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module", params=["owner", "role"])
def seen(request: pytest.FixtureRequest, filled: str, role_url: str) -> Iterator[Seen]:
    """All that a store asks for in its daily work, as the tables' owner and as another role."""
    url = filled if request.param == "owner" else role_url
    with recording("holdfast") as asked:
        work(url, 10_000 if request.param == "owner" else 20_000)
    with psycopg.connect(url, autocommit=True) as connection:
        learn_arrays(connection)
        connection.execute("SELECT set_config('holdfast.tenant', %s, false)", (TENANT,))
        yield Seen(asked, url, connection)


def work(url: str, first: int) -> None:
    """Do everything that a store can do, with sessions from `first` on."""
    names = (f"s{number}" for number in range(first, COUNT))
    with holdfast.connect(url) as store:
        write(store, names, url)
        read(store, next(names))
        listed(store, first)
    paged(url)


def read(store: SessionStore, name: str) -> None:
    """Read a session in every way, and search."""
    store.add_user_message(name, "hello")
    history = store.get_chat_history(name)
    store.get_chat_history(name, max_messages=1)
    store.get_chat_history(name, at=history.revision - 1)
    store.read_entries(name, limit=10)
    store.search("word17")
    store.search("word17 hello", user_id="user17")
    store.stats(name)
    assert store.verify(name)


def listed(store: SessionStore, first: int) -> None:
    """List sessions, of all and of some."""
    for page in (
        store.list_sessions(),
        store.list_sessions(user_id=f"user{first % 1000}"),
        store.list_sessions(agent_name="agent7"),
        store.list_sessions(user_id="user7", agent_name="agent7"),
    ):
        assert len(page) == 50


def paged(url: str) -> None:
    """Ask for pages far down, and let the rules decide a batch."""
    backend = backend_for(url, durability="full", timeout_s=30, sources=Sources())
    backend.open()
    middle = (COUNT // 2, COUNT // 2)
    assert len(backend.list_sessions(Listing(TENANT, 50, middle))) == 50
    assert backend.list_sessions(Listing(TENANT, 50, middle, user_id="user7"))
    assert backend.list_sessions(Listing(TENANT, 50, middle, agent_name="agent7"))
    assert len(backend.sessions_after(TENANT, COUNT // 2, 1000)) == 1000
    with suppress(NotSupported):  # of a role that sees one tenant alone
        assert backend.tenants() == [TENANT]
    assert backend.read_keys(TENANT, "s1") is not None
    assert backend.admit(wait=True)
    backend.commit([clear(f"s{number}") for number in range(1, 6)])
    backend.leave()
    backend.close()


def test_everything_is_asked(seen: Seen) -> None:
    """The work makes use of every statement that there is, so that none escapes these tests."""
    asked = {each.name for each in seen.asked}
    assert set(queries("holdfast")) - asked == OF_EVERYTHING - {"size", "tenants"}


def test_the_index_of_many_sessions_is_counted_seldom(seen: Seen) -> None:
    """How much the index has of a large tenant is not counted again by the next who searches."""
    names = [each.name for each in seen.asked]
    assert names.count("search") > names.count("count_indexed") == 1


def test_a_scan_would_be_seen(seen: Seen) -> None:
    """What the other tests look for is there in a statement that has no index."""
    for statement in (
        "SELECT FROM holdfast.messages WHERE payload = 'none'",
        "SELECT FROM holdfast.sessions ORDER BY title",
    ):
        steps = run_plan(seen.connection, Asked("planted", statement, None, ()))
        assert {"Seq Scan", "Bitmap Heap Scan"} & {step.kind for step in steps}
        assert steps[0].blocks > BLOCKS
        assert max(step.dropped for step in steps) > IN_VAIN or "Sort" in {s.kind for s in steps}


@pytest.mark.parametrize("name", HOT)
def test_no_table_is_scanned(seen: Seen, name: str) -> None:
    """Each statement finds its rows through indexes, looks at few others, and sorts few."""
    for asked in [each for each in seen.asked if each.name == name][:20]:
        steps = run_plan(seen.connection, asked)
        for step in steps:
            assert step.kind != "Seq Scan", steps
            assert "Sort" not in step.kind or step.rows <= LARGE_SORT, steps
            assert step.dropped <= IN_VAIN, steps
        if name in INDEX_ALONE:
            assert {"Index Only Scan", "Bitmap Index Scan"} & {step.kind for step in steps}
        elif "hello" not in repr(asked.values):  # a word that all messages have
            assert steps[0].blocks <= BLOCKS, steps


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_scans_a_table(seen: Seen, name: str, *, keyed: bool) -> None:
    """What appends finds its rows through indexes, also with plans that are kept."""
    keys, ids, sent = FUNCTIONS[name]
    found = [each for each in seen.asked if each.name == name]
    asked = next(each for each in found if (each.values[keys] is not None) is keyed)
    with connect(parse_address(seen.url, 10)) as connection:
        for attempt in range(10):
            values = list(asked.values)
            values[ids] = sent(f"w_again{attempt}")
            if keyed:
                values[keys] = sent(f"again{attempt}")
            with connection.transaction(force_rollback=True):
                done = call(connection, calls("holdfast")[name], values)
                scans = connection.execute(
                    "SELECT relname, seq_scan FROM pg_stat_xact_user_tables "
                    "WHERE schemaname = 'holdfast' AND idx_scan > 0"
                ).fetchall()
            assert done.ntuples <= 1  # a write of a turn that is closed by now does nothing
            assert ("sessions", 0) in scans
            assert all(scanned == 0 for _, scanned in scans), scans


def counters(connection: psycopg.Connection[Any], schema: str) -> dict[str, tuple[int, ...]]:
    """What PostgreSQL has counted for each table: updates, those in place, rows of scans."""
    found = connection.execute(
        "SELECT relname, n_tup_upd, n_tup_hot_upd, seq_tup_read FROM pg_stat_user_tables "
        "WHERE schemaname = %s",
        (schema,),
    )
    return {name: tuple(numbers) for name, *numbers in found}


def counted(
    connection: psycopg.Connection[Any], schema: str, updates: int
) -> dict[str, tuple[int, ...]]:
    """The counters, as soon as so many updates of sessions are among them."""
    deadline = time.monotonic() + 30
    while (found := counters(connection, schema))["sessions"][0] < updates:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_a_lone_session_is_updated_in_place(database: str) -> None:
    """Appending to the session that changed last touches no index of its row (HOT)."""
    with holdfast.connect(database) as store:
        store.add_user_message("a", "hello")
        for number in range(300):
            store.add_user_message("a", str(number), key=str(number))
    with psycopg.connect(database, autocommit=True) as connection:
        updates, in_place, _ = counted(connection, "holdfast", 300)["sessions"]
    assert updates == in_place >= 300


def test_plans_outlive_growth(database: str) -> None:
    """A connection that wrote while the tables were small scans no table once they have grown."""
    with (
        psycopg.connect(database, autocommit=True) as connection,
        holdfast.connect(database) as store,
    ):
        for table in ("sessions", "messages", "keys"):
            connection.execute(
                f"ALTER TABLE holdfast.{table} SET (autovacuum_enabled = off)".encode()
            )
        store.add_user_message("a", "hello", key="k")
        for table in ("sessions", "messages", "keys"):
            connection.execute(f"ANALYZE holdfast.{table}".encode())
        for number in range(20):
            store.add_user_message("a", "hello", key=str(number))
        _grow(connection)
        before = counters(connection, "holdfast")
        for number in range(20, 40):
            store.add_user_message("a", "hello", key=str(number))
        store.close()
        after = counted(connection, "holdfast", 40)
    # The last counters of what came before may arrive late; one scan would read 20,000 rows.
    assert after["sessions"][2] - before["sessions"][2] < 1_000
    assert after["keys"][2] - before["keys"][2] < 1_000


def _grow(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO holdfast.sessions (shard, tenant, id, pk, revision, history_revision, base, "
        "       floor, message_count, created, updated, rank) "
        "SELECT n, 'more', n, n, 0, 0, 0, 0, 0, 0, 0, n FROM generate_series(1, 20000) AS n"
    )
    connection.execute(
        "INSERT INTO holdfast.keys (shard, tenant, session, key, invented, kind, revision, kept, "
        "       write, at) "
        "SELECT n, 'more', n, 'k', true, 'add', 0, 0, 'w', 0 FROM generate_series(1, 20000) AS n"
    )
