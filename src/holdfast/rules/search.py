"""What a query means: which messages fit it, and which of them fit best.

A store with an index asks the index, any other looks at every message; both go by these rules, so
both find the same. The rank of a message is BM25, as SQLite's full-text index computes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypedDict

import msgspec

from holdfast.errors import InvalidArgument
from holdfast.model.search import Found, Phrase, Query, Said
from holdfast.rules.checksums import crc32
from holdfast.rules.words import located, normal, words

MAX_QUERY_WORDS = 100
_SYNTAX = re.compile(r'"(?P<quoted>[^"]*)(?:"(?P<star>\*)?|$)|(?P<plain>[^\s"]+)')

_K1 = 1.2
_B = 0.75
_LEAST = 1e-6
TENANT_WORDS = 1
"""An index has the tenant among a message's words, so it counts in the message's length."""


class _Form(TypedDict, total=False):
    role: Any
    content: Any


_decoder = msgspec.json.Decoder(_Form)


def parse_query(text: object) -> Query:
    """Return what a query asks for.

    Plain words, "quoted phrases", and `*` behind a word or a phrase for what begins so. All else is
    punctuation: it parts words, and what has no space within is a phrase.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"a query must be text, not {type(text).__name__}")
    phrases: dict[Phrase, None] = {}
    for found in _SYNTAX.finditer(normal(text)):
        if found["plain"] is None:
            phrase = Phrase(tuple(words(found["quoted"])), found["star"] is not None)
        else:
            phrase = _plain(found["plain"])
        if phrase.words:
            phrases[phrase] = None
    if not phrases:
        raise InvalidArgument("the query has no word in it", hint="look for a word or a number")
    count = sum(len(phrase.words) for phrase in phrases)
    if count > MAX_QUERY_WORDS:
        raise InvalidArgument(
            f"the query has {count} words, more than {MAX_QUERY_WORDS}", hint="look for fewer"
        )
    return tuple(phrases)


def _plain(chunk: str) -> Phrase:
    found = list(located(chunk))
    star = chunk.rstrip("*")
    prefix = star != chunk and bool(found) and found[-1][2] == len(star)
    return Phrase(tuple(word for word, _, _ in found), prefix)


def said_in(payload: object, checksum: int) -> list[Said] | None:
    """Return what an entry's messages say; `None` if the entry is not what was written."""
    if not isinstance(payload, bytes) or crc32(payload) != checksum:
        return None
    try:
        return [_said(message) for message in _decoder.decode_lines(payload)]
    except msgspec.MsgspecError:
        return None


def _said(message: _Form) -> Said:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return Said(str(message.get("role")), normal(content) if isinstance(content, str) else "")


class Match(NamedTuple):
    """A message that fits: how often it has each phrase, and how many words it has."""

    found: Found
    counts: tuple[int, ...]
    length: int


class Scan:
    """Looks at one message after the other, keeps what fits, and knows in the end what fits best.

    How much a word weighs depends on how rare it is, so nothing is ranked before all is seen.
    """

    def __init__(self, query: Query) -> None:
        self.matches: list[Match] = []
        self._query = query
        self._messages = 0
        self._words = 0
        self._holding = [0] * len(query)

    def look(self, found: Found) -> None:
        """Look at a message."""
        match = matched(found, self._query)
        if match.length:
            self.count_in(1, match.length, [count > 0 for count in match.counts])
        if all(match.counts):
            self.matches.append(match)

    def count_in(self, messages: int, length: int, holding: Sequence[int]) -> None:
        """Count messages in: their words in all, and how many of them have each phrase."""
        self._messages += messages
        self._words += length + TENANT_WORDS * messages
        self._holding = [a + b for a, b in zip(self._holding, holding, strict=True)]

    def best(self, limit: int) -> list[Found]:
        """Return the messages that fit best; of those that fit equally the newest first."""
        weights = [_weight(self._messages, holding) for holding in self._holding]
        average = self._words / max(self._messages, 1)

        def order(match: Match) -> tuple[float, int, int, int]:
            relative = (match.length + TENANT_WORDS) / average
            norm = _K1 * (1 - _B + _B * relative)
            score = sum(
                weight * (count * (_K1 + 1)) / (count + norm)
                for weight, count in zip(weights, match.counts, strict=True)
            )
            return score, match.found.at, match.found.revision, match.found.index

        ranked = sorted(self.matches, key=order, reverse=True)
        return [match.found for match in ranked[:limit]]


def matched(found: Found, query: Query) -> Match:
    """Return how often a message has each phrase of a query."""
    said = words(found.said.text)
    return Match(found, tuple(_count(phrase, said) for phrase in query), len(said))


def _weight(messages: int, holding: int) -> float:
    weight = math.log((messages - holding + 0.5) / (holding + 0.5))
    return weight if weight > 0 else _LEAST


def _count(phrase: Phrase, said: list[str]) -> int:
    if len(phrase.words) == 1 and not phrase.prefix:
        return said.count(phrase.words[0])
    return sum(1 for _ in places(phrase, said))


def places(phrase: Phrase, said: Sequence[str]) -> Iterator[int]:
    """Yield where in a text's words a phrase begins."""
    *before, last = phrase.words
    for start in range(len(said) - len(before)):
        end = said[start + len(before)]
        fits = end.startswith(last) if phrase.prefix else end == last
        if fits and all(said[start + n] == word for n, word in enumerate(before)):
            yield start
