"""What all tests share."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings

import holdfast
from holdfast.testing.postgres import Server
from tests.alone import admitted
from tests.started import end_all

# The same examples every time, and no judgement of speed: a machine may be busy with other things.
settings.register_profile("holdfast", derandomize=True, database=None, deadline=None)
settings.load_profile("holdfast")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts and stops.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the conformance suite last: of its many small parts each process takes as it is free."""
    items.sort(key=lambda item: item.path.name == "test_conformance.py")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # first, so that no test's timeout counts the wait
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool | None, bool | None]:
    """Let no test run beside one that is marked `alone`."""
    with admitted(item):
        return (yield)


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """No program that a test starts outlives it."""
    yield
    end_all()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is shared by all tests: it must not be stopped, killed, frozen or set up."""
    # Sooner than anybody stops waiting for a lock: no deadlock is to pass unseen.
    settings = {"deadlock_timeout": "200ms"}
    folder = tmp_path_factory.mktemp("postgres") / "shared"
    with Server.start(folder, settings=settings) as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The address of a new, empty database, which is dropped after the test."""
    name = f"test{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def _emptying(server: Server) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """A store that is used again and again, and who empties it."""
    url = f"{server.url}?schema=emptied"
    holdfast.connect(url).close()
    with psycopg.connect(server.url, autocommit=True) as connection:
        yield url, connection


@pytest.fixture
def emptied(_emptying: tuple[str, psycopg.Connection[Any]]) -> str:
    """The address of an empty store, which is a great deal quicker to have than a new one."""
    url, connection = _emptying
    tables = ("sessions", "messages", "activity", "keys", "waiters", "searched")
    connection.execute("; ".join(f"DELETE FROM emptied.{table}" for table in tables))
    return url


@pytest.fixture
def schema(server: Server) -> Iterator[str]:
    """The address of a new store on the shared server; no two of its transactions may deadlock."""
    with server.log.open("rb") as log:
        log.seek(0, 2)
        yield f"{server.url}?schema=test{next(_numbers)}"
        assert b"deadlock detected" not in log.read()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new store, in a file or on the shared server."""
    if request.param == "postgres":
        return str(request.getfixturevalue("schema"))
    return str(tmp_path / "store.db")
