"""The words of a text, as search compares them: without case, accents and punctuation.

Every backend cuts text into words here and nowhere else, so that an index and a scan find the same
messages. What a character is, is asked of Unicode 3.2, which every Python keeps for domain names: a
newer Python must not find other words in a text than the one that filled an index. Characters that
came later are words of their own, and so are those of scripts without spaces between words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import ucd_3_2_0 as unicode

MAX_WORD = 100
"""Characters of a word that count. What is longer is no word that people look for."""

_SPACELESS = (
    range(0x0E00, 0x10A0),  # Thai, Lao, Tibetan, Myanmar
    range(0x1780, 0x1800),  # Khmer
    range(0x2E80, 0x3130),  # radicals, kana, Bopomofo
    range(0x3190, 0xA4D0),  # ideographs, Yi; Hangul, which has spaces, lies on both sides
    range(0xF900, 0xFB00),  # ideographs, for compatibility
    range(0x20000, 0x40000),  # rarer ideographs
)
_CHUNK = re.compile(r"\S+")  # white space always parts words
_HEBREW_AND_ARABIC_POINTS = range(10, 36)
_AROUND_A_LETTER = 200
_UNSEEN = frozenset(["\u00ad", *map(chr, range(0xFE00, 0xFE10))])  # soft hyphen, choices of form
_LATER = {"ẞ": "ss"}  # of a common script, though Unicode 3.2 does not know it


def normal(text: str) -> str:
    """Return a text with its characters composed: what words are cut from and snippets show."""
    return text if text.isascii() else unicode.normalize("NFC", text)


def words(text: str) -> list[str]:
    """Return the words of a `normal` text, in order."""
    folded = text.translate(_folding)
    if len(folded) <= MAX_WORD:
        return folded.split()
    return [word[:MAX_WORD] for word in folded.split()]


def located(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each word of a `normal` text, and where in the text it begins and ends."""
    for chunk in _CHUNK.finditer(text):
        found = chunk[0]
        if found.isascii() and found.isalnum():  # as most words are
            yield found.lower()[:MAX_WORD], chunk.start(), chunk.end()
        else:
            for word, start, end in _located(found):
                yield word[:MAX_WORD], chunk.start() + start, chunk.start() + end


def _located(text: str) -> Iterator[tuple[str, int, int]]:
    word, start, end = "", 0, 0
    for place, character in enumerate(text):
        for folded in _folding[ord(character)]:
            if folded != " ":
                if not word:
                    start = place
                word, end = word + folded, place + 1
            elif word:
                yield word, start, end
                word = ""
    if word:
        yield word, start, end


class _Folding(dict[int, str]):
    """What each character becomes; worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _folded(chr(code))
        return folded


def _folded(character: str) -> str:
    """Return what a character is in a word, or the space that it is between words."""
    if character in _LATER:
        return _LATER[character]
    if unicode.category(character) == "Cn":
        return f" {character} "
    plain = unicode.normalize("NFKD", unicode.normalize("NFKD", character).casefold())
    kept = unicode.normalize("NFC", "".join(map(_part, plain)))
    return "".join(f" {c} " if any(ord(c) in each for each in _SPACELESS) else c for c in kept)


def _part(character: str) -> str:
    category, around = unicode.category(character), unicode.combining(character)
    if around >= _AROUND_A_LETTER or around in _HEBREW_AND_ARABIC_POINTS:
        return ""
    if category in ("Cf", "Me") or character in _UNSEEN:
        return ""
    return character if category[0] in "LNM" or category == "Cn" else " "


_folding = _Folding()
