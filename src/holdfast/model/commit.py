"""What a write answers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct


class Commit(Struct, frozen=True):
    """A write that is durable.

    `revision` is the last entry that it wrote, `history_revision` what a `History` read right after
    it would carry. `replayed` says that its key had been used: this is the first call's outcome.
    `kept` counts the newer messages that a rewrite carried over, `removed` those that a reset left
    in the earlier generation (0 in a replay); what a rewind or a compaction takes over from the
    generation that it closes has not left.
    """

    revision: int
    history_revision: int
    replayed: bool = False
    kept: int = 0
    removed: int = 0


Erasure: TypeAlias = Literal["done", "pending", "none"]


class Deletion(Struct, frozen=True):
    """A session that is gone; true if there was one.

    `erasure` is `"done"` when no byte of it is left in the store's files, `"pending"` while a
    reader still holds some (the store remembers, and finishes), `"none"` when nothing existed. In
    PostgreSQL it is `"pending"`: the server overwrites the bytes when it needs their place.
    """

    existed: bool
    erasure: Erasure

    def __bool__(self) -> bool:
        return self.existed


class Purge(Struct, frozen=True):
    """Earlier generations that are gone: of how many sessions, and what they held.

    `erasure` is as for a `Deletion`: `"none"` when there was nothing to purge.
    """

    sessions: int = 0
    generations: int = 0
    messages: int = 0
    erasure: Erasure = "none"

    def __add__(self, later: Purge) -> Purge:
        # An erasure is of the whole store: the last one says how it stands.
        return Purge(
            self.sessions + later.sessions,
            self.generations + later.generations,
            self.messages + later.messages,
            self.erasure if later.erasure == "none" else later.erasure,
        )
