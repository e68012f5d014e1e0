"""A PostgreSQL server of its own, in a folder: started, stopped, killed, frozen, started again.

It is durable as in production (`fsync` and `synchronous_commit` are on) and trusts everybody who
can reach the loopback interface.

    folder/data            the data folder
    folder/server.log      what the server says, over all its lives
    folder/.s.PGSQL.PORT   its Unix socket
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from holdfast.errors import Unavailable
from holdfast.testing.postgres import guard, processes, programs
from holdfast.testing.postgres.ports import free_port
from holdfast.testing.postgres.template import make_data_folder

READY_S = 60.0
"""How long a server may take to start, crash recovery included, or to stop."""

LOOK_S = 0.005
"""How long after a look at a server that is starting the next one follows."""

StopMode: TypeAlias = Literal["smart", "fast", "immediate"]

_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class Server:
    """A PostgreSQL server that belongs to this process and does not outlive it.

    Not for several threads at once.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = 0
        self.settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path | str, *, settings: Mapping[str, str] | None = None) -> Self:
        """Make a new server in the folder, start it, and wait until it takes connections.

        `folder` is made if need be, and must hold no server yet. `settings` are PostgreSQL's, by
        name, for this and every later start. Raises `Unavailable`, with what the server said, if it
        does not start.
        """
        server = cls(Path(folder).absolute(), settings=settings or {})
        server.folder.mkdir(parents=True, exist_ok=True)
        make_data_folder(server.data)
        server.start_on_free_port()
        return server

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file with what the server said."""
        return self.folder / "server.log"

    @property
    def url(self) -> str:
        """The address of the database `postgres`, for its superuser."""
        return self.url_for()

    def url_for(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Return the address of a database, for a user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def is_running(self) -> bool:
        """Whether the server's first process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's first process; raises `Unavailable` if the server is down."""
        return self._running().pid

    def start_on_free_port(self) -> None:
        """Start the server for the first time; `start` and `replica` do so."""
        deadline = time.monotonic() + READY_S
        while True:
            self.port = free_port()
            if self._start_unless_port_is_taken():
                return
            if time.monotonic() > deadline:
                raise self._failed("finds no free port")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, as `pg_ctl stop` does, and wait until it is down; also one that is."""
        if self.is_running:
            process = self._running()
            self.thaw()
            process.send_signal(_SIGNALS[mode])
            try:
                process.wait(READY_S)
            except subprocess.TimeoutExpired:
                raise self._failed(f"did not stop within {READY_S:.0f} s") from None
        self._process = None

    def kill(self) -> None:
        """Kill all of the server's processes at one moment, as in a crash, and wait for their end.

        What it had acknowledged is in its files: `restart` recovers it.
        """
        process = self._running()
        processes.kill(process.pid)
        process.wait(READY_S)
        self._process = None

    def restart(self) -> None:
        """Start the server on the same data and port, stopped, killed or running as it may be."""
        self.stop()
        deadline = time.monotonic() + READY_S
        while not self._start_unless_port_is_taken():
            if time.monotonic() > deadline:
                raise self._failed(f"does not get its port {self.port} back")

    def freeze(self) -> None:
        """Let all of the server's processes stand still (SIGSTOP).

        Connections stay, and are even taken by the system; nothing is answered.
        """
        processes.freeze(self.pid)

    def thaw(self) -> None:
        """Let a frozen server go on; one that is not frozen goes on as well."""
        processes.thaw(self.pid)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement on the database `postgres`, as a transaction; return its rows."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> str:
        """Make an empty database and return its address."""
        self.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE template0")
        return self.url_for(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, and whoever is connected to it."""
        self.execute(f"DROP DATABASE {_quoted(name)} WITH (FORCE)")

    def create_role(self, name: str) -> str:
        """Make an ordinary user, who may log in; return the address of `postgres` for it."""
        self.execute(f"CREATE ROLE {_quoted(name)} LOGIN")
        return self.url_for(user=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop("immediate")

    def _start_unless_port_is_taken(self) -> bool:
        """Start and wait until connections are taken; false if somebody else has the port."""
        guard.watch_server(self.data)
        with self.log.open("ab") as log:
            before = log.tell()
            process = self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=programs.environment(),
                start_new_session=True,  # Ctrl-C is meant for whoever runs the tests
            )
        try:
            return self._is_up(process, before)
        except BaseException:
            self.stop("immediate")
            raise

    def _is_up(self, process: subprocess.Popen[bytes], log_began: int) -> bool:
        deadline = time.monotonic() + READY_S
        while self._status(process.pid) != "ready":
            try:
                process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise self._failed(f"is not ready after {READY_S:.0f} s") from None
                continue
            with self.log.open("rb") as log:
                log.seek(log_began)
                said = log.read().decode("utf-8", "replace")
            if "Address already in use" in said:
                return False
            raise self._failed(f"ended with {process.returncode}")
        return True

    def _status(self, pid: int) -> str:
        """Return what the server says of itself in its lock file, where pg_ctl looks too."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return ""
        # A killed server leaves its file.
        return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else ""

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            # From the data folder, where the server works: the name of a socket may have 107 bytes.
            "unix_socket_directories": "..",
            **self.settings,
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return programs.command("postgres", "-D", str(self.data), *given)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise Unavailable(f"the server in {self.folder} is down", hint="restart() starts it")
        return self._process

    def _failed(self, what: str) -> Unavailable:
        said = self.log.read_text("utf-8", "replace").splitlines()[-20:]
        return Unavailable(
            "\n".join([f"the server in {self.folder} {what}; it said:", *said]), retryable=False
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
