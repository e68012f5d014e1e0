"""The part of a message that a search shows, and where in it the matches are."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model.search import Found, Query, SearchHit
from holdfast.rules.projection import moment
from holdfast.rules.search import places
from holdfast.rules.words import located

LENGTH = 160
"""How many characters of a text a snippet shows at most, beside the two `…`."""

_BEFORE = 40
_LOOKED_AT = 200

_Span = tuple[int, int, int]


def hit(found: Found, query: Query) -> SearchHit:
    """Return what a caller sees of a message that was found."""
    snippet, matches = cut(found.said.text, query)
    return SearchHit(
        session_id=found.session_id,
        revision=found.revision,
        index=found.index,
        role=found.said.role,
        snippet=snippet,
        matches=matches,
        at=moment(found.at),
    )


def cut(text: str, query: Query) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the part of a text where most of a query is, and the places of the matches in it."""
    spans = _spans(text, query)
    start, end = _window(text, _densest(spans))
    before = "…" if start > 0 else ""
    after = "…" if end < len(text) else ""
    shift = len(before) - start
    shown = [
        (max(s, start) + shift, min(e, end) + shift) for s, e, _ in spans if s < end and e > start
    ]
    matches: list[tuple[int, int]] = []
    for span in shown:
        if matches and span[0] <= matches[-1][1]:
            matches[-1] = (matches[-1][0], max(matches[-1][1], span[1]))
        else:
            matches.append(span)
    return before + text[start:end] + after, tuple(matches)


def _spans(text: str, query: Query) -> list[_Span]:
    """Return where the phrases stand, in order, and which phrase each is."""
    located_words = list(located(text))
    said = [word for word, _, _ in located_words]
    return sorted(
        (located_words[place][1], located_words[place + len(phrase.words) - 1][2], number)
        for number, phrase in enumerate(query)
        for place in places(phrase, said)
    )


def _densest(spans: Sequence[_Span]) -> _Span:
    """Return the match behind which most different phrases stand near each other."""
    best, most = (0, 0, 0), 0
    for place, span in enumerate(spans[:_LOOKED_AT]):
        near = {
            n for s, e, n in spans[place : place + _LOOKED_AT] if e <= span[0] + LENGTH - _BEFORE
        }
        if len(near) > most or not place:
            best, most = span, len(near)
    return best


def _window(text: str, span: _Span) -> tuple[int, int]:
    """Return the part of a text to show around a match, cut between words if it can be."""
    first, last, _ = span
    if len(text) <= LENGTH:
        return 0, len(text)
    start = max(0, min(first - _BEFORE, len(text) - LENGTH))
    end = min(len(text), start + LENGTH)
    if start > 0:
        start = text.find(" ", start, first) + 1 or start
    if end < len(text):
        space = text.rfind(" ", last, end)
        end = space if space > 0 else end
    return start, end
