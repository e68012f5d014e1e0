"""Listening for other processes' commits, and letting go of the connections that it takes."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from holdfast.errors import Unavailable
from holdfast.store.postgres.connections import Connections, parse_address
from holdfast.store.postgres.outages import Outage
from holdfast.store.postgres.watching import Watcher
from holdfast.testing.postgres import Server

TIMEOUT_S = 0.2


def test_no_second_connection(server: Server) -> None:
    """Whoever cannot find out whether news arrive lets go of the connection it was to listen on."""
    address = parse_address(f"{server.url}?connections=3", TIMEOUT_S)
    connections = Connections(address, Outage(time.monotonic, TIMEOUT_S))
    watcher = Watcher(connections)
    with connections.lend():
        for _ in range(3):
            with pytest.raises(Unavailable, match="in use"):
                watcher.wait(0)
    with ExitStack() as readers:
        for _ in range(2):
            readers.enter_context(connections.lend())
    assert watcher.wait(0)
    assert not watcher.polls
    watcher.close()
    connections.close()
