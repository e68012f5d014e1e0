"""What is searched for, what is found, and what filling the search index came to."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, TypeAlias

from msgspec import Struct


class Phrase(NamedTuple):
    """Words that stand next to each other; of the last one, with `prefix`, only the beginning."""

    words: tuple[str, ...]
    prefix: bool = False


Query: TypeAlias = tuple[Phrase, ...]
"""What a message must hold: every phrase, in any order."""


class Search(Struct, frozen=True):
    """Which messages to find: of a tenant's current histories, or of one user's, the best ones."""

    tenant: str
    query: Query
    user_id: str | None
    limit: int


class Said(NamedTuple):
    """One message as search sees it: who said what."""

    role: str
    text: str


class Found(Struct, frozen=True):
    """A message that a search found, by its address. `at` is in milliseconds since 1970, UTC."""

    session_id: str
    revision: int
    index: int
    at: int
    said: Said


class Indexed(Struct, frozen=True):
    """What a slice came to: how many entries it indexed, and whether none is left."""

    entries: int
    complete: bool


class SearchHit(Struct, frozen=True):
    """A message that fits a query.

    Its address is the `revision` of its entry and its `index` among the entry's messages; `at` is
    when the entry was committed. `snippet` is the part of the text where it fits best, with `…`
    where something was left out; `matches` says where in it the words are, as (start, end) pairs.
    """

    session_id: str
    revision: int
    index: int
    role: str
    snippet: str
    matches: tuple[tuple[int, int], ...]
    at: datetime
