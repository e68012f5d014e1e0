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

# Thai, Lao, Tibetan, Myanmar, Khmer; then from the radicals over kana and ideographs to Yi (but
# not the letters of Hangul), compatibility ideographs, and the planes of rarer ideographs.
_SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
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
    return _SPACELESS.sub(r" \g<0> ", kept)


def _part(character: str) -> str:
    category, around = unicode.category(character), unicode.combining(character)
    if around >= _AROUND_A_LETTER or around in _HEBREW_AND_ARABIC_POINTS:
        return ""
    if category in ("Cf", "Me") or character in _UNSEEN:
        return ""
    return character if category[0] in "LNM" or category == "Cn" else " "


_folding = _Folding()
