"""A server of its own: what a test may do to it, and that it never outlives its test."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from holdfast.errors import Unavailable
from holdfast.testing.postgres import Server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that these tests may harm, and that each of them leaves running."""
    with Server.start(tmp_path_factory.mktemp("own"), settings={"work_mem": "5MB"}) as server:
        yield server


def test_it_is_durable(server: Server) -> None:
    """A server syncs what it acknowledges, and its databases are UTF-8."""
    shown = [
        server.execute(f"SHOW {name}")[0][0]
        for name in ("fsync", "synchronous_commit", "server_encoding", "lc_messages")
    ]
    assert shown == ["on", "on", "UTF8", "C"]


def test_databases_are_apart(server: Server, database: str) -> None:
    """Each test has an empty database, whatever was done to the others."""
    server.execute("CREATE TABLE IF NOT EXISTS elsewhere ()")
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
        assert tables.fetchone() == (0,)


def test_roles_are_ordinary(server: Server) -> None:
    """A role that was made may log in, and may make nothing."""
    with (
        psycopg.connect(server.create_role("guest")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE public.mine ()")


def test_socket(server: Server) -> None:
    """A server also listens on a Unix socket in its folder, however long the folder's name."""
    assert (server.folder / f".s.PGSQL.{server.port}").is_socket()


def test_kill_keeps_what_was_committed(own: Server) -> None:
    """After a crash the server recovers what was committed, and only that, on the same port."""
    own.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    port = own.port
    for round_ in range(3):
        own.execute(f"INSERT INTO kept VALUES ({round_})")
        with psycopg.connect(own.url) as open_:
            open_.execute("INSERT INTO kept VALUES (-1)")
            family = [psutil.Process(own.pid), *psutil.Process(own.pid).children()]
            own.kill()
            assert not own.is_running
            assert not any(_runs(process) for process in family)
            with pytest.raises(psycopg.OperationalError):
                open_.execute("SELECT 1")
        own.restart()
        assert own.port == port
    assert "was interrupted" in own.log.read_text("utf-8")
    assert own.execute("SELECT n FROM kept ORDER BY n") == [(0,), (1,), (2,)]
    assert own.execute("SHOW work_mem") == [("5MB",)]


def test_frozen_servers_do_not_answer(own: Server) -> None:
    """A frozen server takes a query and does not answer it; it does once it is thawed."""
    connection = psycopg.connect(own.url, autocommit=True)
    with closing(connection):
        own.freeze()
        connection.pgconn.send_query(b"SELECT 7")
        readable, _, _ = select.select([connection], [], [], 0.3)
        own.thaw()
        assert not readable
        result = connection.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"7"


def test_frozen_servers_can_be_killed_and_stopped(own: Server) -> None:
    """A frozen server can be killed, and stopping thaws it first."""
    own.freeze()
    own.kill()
    own.restart()
    own.freeze()
    own.stop()
    with pytest.raises(Unavailable, match="is down"):
        own.pid  # noqa: B018 # a property that raises
    own.restart()
    assert own.execute("SELECT 1") == [(1,)]


def test_taken_ports(own: Server) -> None:
    """A server whose port was taken while it was down says so, and waits for it."""
    own.kill()
    with socket.create_server(("127.0.0.1", own.port)):
        assert not own._start_unless_port_is_taken()
    own.restart()
    assert own.execute("SELECT 1") == [(1,)]


def test_a_server_that_cannot_start(tmp_path: Path) -> None:
    """Whoever starts a server with settings that it refuses is told what it said."""
    with pytest.raises(Unavailable, match='unrecognized configuration parameter "nonsense"'):
        Server.start(tmp_path, settings={"nonsense": "1"})


OWNER = """
import os, sys
from holdfast.testing.postgres import Server
server = Server.start(sys.argv[1])
if sys.argv[2] == "freeze":
    server.freeze()
print(server.pid, flush=True)
if os.fork() == 0:
    os.read(int(sys.argv[3]), 1)  # a child that lives on
    os._exit(0)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["exit", "kill", "freeze"])
def test_servers_end_with_their_owner(tmp_path: Path, how: str) -> None:
    """No server outlives its owner, frozen or after a SIGKILL, and nothing is said on stderr."""
    reading, writing = os.pipe()
    said = tmp_path / "said"
    with (
        said.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path / "data"), how, str(reading)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            pass_fds=[reading],
        ) as owner,
    ):
        os.close(reading)
        assert owner.stdin is not None
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        if how == "exit":
            owner.stdin.close()
        else:
            owner.send_signal(signal.SIGKILL)
        owner.wait(30)
        _eventually(lambda: not _runs(server))
        os.close(writing)
    assert said.read_text("utf-8") == ""


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
