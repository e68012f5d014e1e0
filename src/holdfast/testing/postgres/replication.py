"""A server that follows another one, and takes its place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

from holdfast.errors import Unavailable
from holdfast.testing.postgres import programs
from holdfast.testing.postgres.server import Server

FOLLOWS_S = 60.0
"""How long a new replica may take to have all that its primary has."""

LOOK_S = 0.01
"""How long after a look at a replica that is catching up the next one follows."""

SETTINGS = {"wal_retrieve_retry_interval": "100ms"}
"""A replica's own: it is back soon after its primary was away."""


class Replica(Server):
    """A copy of a primary that receives all that is committed there, and can be read."""

    @classmethod
    def of(
        cls,
        primary: Server,
        folder: Path | str,
        *,
        name: str = "replica",
        synchronous: bool = True,
    ) -> Self:
        """Copy the primary into the folder, start the copy, and wait until it follows.

        `name` is its name in `pg_stat_replication`. From now on the primary's commits wait until a
        synchronous replica has stored them, for as long as that takes.
        """
        replica = cls(Path(folder).absolute(), settings={**primary.settings, **SETTINGS})
        replica.folder.mkdir(parents=True, exist_ok=True)
        programs.make_folder(replica.data)
        programs.run(
            "pg_basebackup",
            f"--pgdata={replica.data}",
            f"--dbname={primary.url}?application_name={name}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )
        # The copy has the primary's list. It would wait for itself once it is promoted.
        with (replica.data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
            settings.write("synchronous_standby_names = ''\n")
        replica.start_on_free_port()
        _await_state(primary, name, "state = 'streaming'")
        if synchronous:
            _wait_for(primary, name)
        return replica

    def promote(self) -> None:
        """Make a primary of this server, and wait until it takes writes.

        Whatever has reached it is kept. It waits for no replica. The former primary, if it still
        runs, goes on as well, and each of the two then has a history of its own.
        """
        if self.execute(f"SELECT pg_promote(true, {FOLLOWS_S:.0f})") != [(True,)]:
            raise Unavailable(f"the replica in {self.folder} could not be promoted")


def _wait_for(primary: Server, name: str) -> None:
    """Let the primary's commits wait for this replica, too."""
    found = primary.execute(
        "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'"
    )
    names = sorted({name, *(other for (other,) in found)})
    quoted = ", ".join(f'"{one}"' for one in names)
    primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = 'FIRST {len(names)} ({quoted})'")
    primary.execute("SELECT pg_reload_conf()")
    _await_state(primary, name, "sync_state = 'sync'")


def _await_state(primary: Server, name: str, state: str) -> None:
    deadline = time.monotonic() + FOLLOWS_S
    wanted = f"SELECT 1 FROM pg_stat_replication WHERE application_name = '{name}' AND {state}"
    while not primary.execute(wanted):
        if time.monotonic() > deadline:
            raise Unavailable(f"the replica {name} does not reach {state} in {FOLLOWS_S:.0f} s")
        time.sleep(LOOK_S)
