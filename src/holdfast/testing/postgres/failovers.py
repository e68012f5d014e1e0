"""Lets primaries go for good in the middle of a storm, and replicas take their place."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.testing.postgres.cutting import CuttingProxy
from holdfast.testing.postgres.replication import Replica
from holdfast.testing.postgres.server import Server
from holdfast.testing.torture.progress import Progress


class Failovers:
    """A primary with a synchronous replica, behind an address that stays.

    Shown a storm's progress, it kills the primary every `every_s` seconds, up to `most` times,
    promotes the replica, leads the address there, and gives the new primary a replica of its own.
    What a primary had committed and not acknowledged may be gone with it.
    """

    def __init__(self, folder: Path, *, every_s: float, most: int) -> None:
        self._folder = folder
        self._every_s = every_s
        self._most = most
        self._next_s = every_s
        self._servers = [Server.start(folder / "server0")]
        self._proxy = CuttingProxy(self._servers[0].port)
        self._replica = self._new_replica()
        self.count = 0

    @property
    def url(self) -> str:
        """The address that leads to the primary of the moment."""
        return self._proxy.url_for(self._servers[0])

    def look(self, progress: Progress) -> None:
        """Fail over if it is time; returns when the new primary takes writes and has a replica."""
        if progress.checking or self.count == self._most or progress.elapsed_s < self._next_s:
            return
        self._servers[-1].kill()
        self._replica.promote()
        self._proxy.retarget(self._replica.port)
        self._servers.append(self._replica)
        self.count += 1
        self._replica = self._new_replica()
        self._next_s = progress.elapsed_s + self._every_s

    def _new_replica(self) -> Replica:
        name = f"server{len(self._servers)}"
        return Replica.of(self._servers[-1], self._folder / name, name=name)

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._proxy.__exit__(kind, error, trace)
        finally:
            for server in (*self._servers, self._replica):
                if server.is_running:
                    server.stop("immediate")
