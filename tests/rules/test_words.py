"""The words of a text."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.rules.words import MAX_WORD, located, normal, words

anything = st.text(max_size=60) | st.text(
    "aeéÉßẞİ\u0131Σ\u03c3ς が か\u3099 학ᄒ\u0301*\"-_.'\n🙂\u200d", max_size=30
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World!", "hello world"),
        ("don't stop", "don t stop"),
        ("snake_case 3.14 a-b", "snake case 3 14 a b"),
        ("Café CAFÉ Cafe\u0301", "cafe cafe cafe"),
        ("Straße STRASSE STRAẞE", "strasse strasse strasse"),
        ("Ελλάδα ΕΛΛΑΣ", "ελλαδα ελλασ"),
        ("ёлка Ёлка", "елка елка"),
        ("co\u00adoperate", "cooperate"),
        ("\uff57\uff49\uff44\uff45 ﬁne ½", "wide fine 1 2"),
        ("שָׁלוֹם مُحَمَّد", "שלום محمد"),
        ("हिन्दी में", "हिन्दी में"),
        ("한국어를", "한국어를"),
        ("東京タワー", "東 京 タ ワ ー"),
        ("iPhoneが", "iphone が"),
        ("ที่นี่", "ท ี ่ น ี ่"),
        ("hi🙂there 👩‍💻", "hi 🙂 there 👩 💻"),
        ("...!? \0 \ud800", ""),
    ],
)
def test_words(text: str, found: str) -> None:
    """Case, accents and signs make no word another; scripts without spaces go by character."""
    assert words(normal(text)) == found.split()


def test_forms_of_one_text() -> None:
    """Composed and decomposed characters make the same words."""
    for one, other in (("が", "か\u3099"), ("학", "\u1112\u1161\u11a8"), ("é", "e\u0301")):
        assert words(normal(one)) == words(normal(other))
        assert len(words(normal(other))) == 1


def test_long_words() -> None:
    """Of a word that is too long only the beginning counts, in a text as in a query."""
    assert words("a" * 5000) == ["a" * MAX_WORD]
    assert words("ß" * MAX_WORD) == ["s" * MAX_WORD]


@given(anything)
def test_words_are_harmless(text: str) -> None:
    """A word holds no space, no quote and no other sign of ASCII: nothing an index could obey."""
    for word in words(normal(text)):
        assert all(sign.isalnum() for sign in word if sign.isascii()), word
        assert not any(sign.isspace() for sign in word)
        assert words(normal(word)) == [word]


@given(anything)
def test_places(text: str) -> None:
    """Words with their places are the same words, in order, each where it says."""
    text = normal(text)
    found = list(located(text))
    assert [word for word, _, _ in found] == words(text)
    ends = [end for _, _, end in found]
    assert ends == sorted(ends)
    for word, start, end in found:
        assert start < end
        assert word in words(text[start:end])


def test_the_same_in_every_python() -> None:
    """What each character becomes is pinned: an index filled by one Python serves all others."""
    digest = hashlib.sha256()
    for code in range(0x31350):
        if not 0xD800 <= code <= 0xDFFF:
            digest.update(" ".join(words(normal(chr(code)))).encode() + b"\n")
    assert digest.hexdigest() == (
        "89f580eec3647f9c16e45869df152b7a52e5e09c1d65afc8579b530a0e55b218"
    )
