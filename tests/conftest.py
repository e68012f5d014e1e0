"""What all tests share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from holdfast.testing.postgres import Server

# The same examples every time, and no judgement of speed: a machine may be busy with other things.
settings.register_profile("holdfast", derandomize=True, database=None, deadline=None)
settings.load_profile("holdfast")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is shared by all tests: it must not be stopped, killed, frozen or set up."""
    with Server.start(tmp_path_factory.mktemp("postgres") / "shared") as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The address of a new, empty database, which is dropped after the test."""
    name = f"test{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


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
