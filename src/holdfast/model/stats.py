"""How much a store holds."""

from __future__ import annotations

from msgspec import Struct

from holdfast.model.usage import UsageTotals


class Stats(Struct, frozen=True):
    """Counts of one tenant's sessions, or of one session.

    `messages` are those of the current histories, `entries` everything in the logs, `generations`
    the histories that are there, earlier ones included. `size_bytes` is what the whole store takes.
    `usage` is what their model calls used, those of purged generations too.
    """

    sessions: int
    messages: int
    entries: int
    generations: int
    size_bytes: int
    usage: UsageTotals = UsageTotals()
