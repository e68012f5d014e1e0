"""What a run is to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from holdfast.rules.arguments import check_id

TENANTS = ("north", "south")
"""Both have sessions with the same ids."""

PATIENCE_S = 20.0
HASTE_S = 0.002


class Plan(Struct, frozen=True, kw_only=True):
    """A run: on which store, how many operations, and who does them.

    `seed` decides what each client tries. The processes take turns in being processes of threads
    and of tasks, `clients` in each; a store of one process has one of both. `kills` processes are
    killed and started again. `relaxed` durability leaves out waiting for the disk, which a process
    that is killed does not need. One commit in `slow` is made to last `delay_s`.
    """

    url: str
    folder: str
    seed: int = 1
    operations: int = 50_000
    processes: int = 4
    clients: int = 4
    kills: int = 12
    relaxed: bool = True
    slow: int = 400
    delay_s: float = 0.004

    @property
    def in_memory(self) -> bool:
        """Whether the store lives in one process."""
        return self.url.lower().startswith("memory:")

    @property
    def durability(self) -> Literal["full", "relaxed"]:
        """What to ask of the store."""
        return "relaxed" if self.relaxed else "full"

    @property
    def path(self) -> Path:
        """Where the recording is."""
        return Path(self.folder)

    def names(self, process: int) -> list[str]:
        """Return the clients of a process, which name its messages as well."""
        return [check_id(f"p{process}c{number}") for number in range(self.clients)]

    def share(self) -> int:
        """Return how many operations each client does."""
        processes = 2 if self.in_memory else self.processes
        return max(1, round(self.operations / (processes * self.clients)))
