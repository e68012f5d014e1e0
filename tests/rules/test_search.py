"""Queries, matches, ranks and snippets."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidArgument
from holdfast.model.entry import EntryKind
from holdfast.model.search import Found, Phrase, Query, Said
from holdfast.rules import codec
from holdfast.rules.search import MAX_QUERY_WORDS, Scan, parse_query, said_in
from holdfast.rules.snippets import LENGTH, cut
from holdfast.rules.words import normal


def phrase(text: str) -> Phrase:
    """A phrase as a test writes it: words, and `*` for a beginning."""
    return Phrase(tuple(text.rstrip("*").split()), text.endswith("*"))


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("hello World", ["hello", "world"]),
        ('"hello world"', ["hello world"]),
        ('say "hello world" now', ["say", "hello world", "now"]),
        ('a"b c"d', ["a", "b c", "d"]),
        ('"never closed', ["never closed"]),
        ("begin*", ["begin*"]),
        ('"begins so"*', ["begins so*"]),
        ("don't", ["don t"]),
        ("a-b* c.*", ["a b*", "c"]),
        ("mid*dle", ["mid dle"]),
        ("* ** word", ["word"]),
        ("twice twice TWICE", ["twice"]),
        ("twice twice*", ["twice", "twice*"]),
        ("東京", ["東 京"]),
        ("a OR b", ["a", "or", "b"]),
        ("text:secret NEAR(a b, 2)", ["text secret", "near a", "b", "2"]),
        ("-not +plus ^first {x}", ["not", "plus", "first", "x"]),
    ],
)
def test_queries(query: str, phrases: list[str]) -> None:
    """Words, quoted phrases and beginnings; whatever else stands there is punctuation."""
    assert parse_query(query) == tuple(map(phrase, phrases))


@pytest.mark.parametrize("query", ["", " ", '""', "*", '"*"', "!?", "\0", "\ud800", None, 5, b"a"])
def test_no_queries(query: object) -> None:
    """What holds no word is refused."""
    with pytest.raises(InvalidArgument):
        parse_query(query)


def test_too_many_words() -> None:
    """A query has so many words at most."""
    many = [f"w{n}" for n in range(MAX_QUERY_WORDS + 1)]
    assert len(parse_query(" ".join(many[1:]))) == MAX_QUERY_WORDS
    with pytest.raises(InvalidArgument, match="101 words"):
        parse_query(" ".join(many))


@given(st.text(max_size=80) | st.text("\"* ab'-:()^{}+,\n", max_size=40))
def test_any_text_is_a_query_or_refused(text: str) -> None:
    """Whatever is typed becomes phrases of words, or is refused because there is no word in it."""
    try:
        query = parse_query(text)
    except InvalidArgument:
        return
    assert query
    assert all(each.words for each in query)
    assert all(sign.isalnum() for each in query for w in each.words for sign in w if sign.isascii())


def said(*texts: str) -> list[Found]:
    """One message an entry, the later the newer."""
    return [Found("s", n, 0, n, Said("user", text)) for n, text in enumerate(texts)]


def found(query: str, *texts: str) -> list[str]:
    """The texts that a scan finds, the best first."""
    scan = Scan(parse_query(query))
    for each in said(*texts):
        scan.look(each)
    return [each.said.text for each in scan.best(100)]


def test_all_phrases_must_be_there() -> None:
    """A message fits if it holds every phrase, in any order."""
    assert found("b a", "a b", "a", "b", "b x a") == ["a b", "b x a"]
    assert found('"a b"', "a b", "b a", "a x b") == ["a b"]
    assert found("be*", "begin", "to be", "abe") == ["begin", "to be"]


def test_the_best_come_first() -> None:
    """Often before seldom, short before long, rare words before common ones, then the newest."""
    assert found("a", "a x x x", "a a a x") == ["a a a x", "a x x x"]
    assert found("a", "a" + " x" * 50, "a x") == ["a x", "a" + " x" * 50]
    assert found("a", "a 1", "a 2", "a 3") == ["a 3", "a 2", "a 1"]
    common = ["often"] * 9
    assert (
        found("often rare", *common, "often often rare", "often rare rare")[0] == "often rare rare"
    )


def test_texts_of_messages() -> None:
    """A message's text is its content, or that of its parts; calls, ids and metadata are not."""
    messages = [
        {"role": "user", "content": "plain", "id": "hidden", "metadata": {"hidden": 1}},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": 5}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "hidden"}]},
        {"role": "tool", "content": "", "tool_call_id": "hidden"},
    ]
    entry = codec.new_entry(EntryKind.MESSAGE, map(codec.encode, messages))
    assert said_in(entry.payload, entry.checksum) == [
        Said("user", "plain"),
        Said("user", "a"),
        Said("assistant", ""),
        Said("tool", ""),
    ]


@pytest.mark.parametrize("payload", [None, b"{", b'{"role": 1}\n[]', b"\xff"])
def test_damaged_entries(payload: bytes | None) -> None:
    """An entry that cannot be read, or that is not what was written, says nothing."""
    assert said_in(payload, crc32(payload or b"")) is None
    assert said_in(b'{"role":"user","content":"a"}', 1) is None


def marked(text: str, query: str) -> str:
    """A snippet with its matches in brackets."""
    snippet, matches = cut(normal(text), parse_query(query))
    for start, end in reversed(matches):
        snippet = f"{snippet[:start]}[{snippet[start:end]}]{snippet[end:]}"
    return snippet


def test_snippets() -> None:
    """A snippet shows where most of the query stands together, cut between words."""
    assert marked("Hello, World", "world hello") == "[Hello], [World]"
    assert marked("Don't!", "don't") == "[Don't]!"
    assert marked("東京タワー", "京タ") == "東[京タ]ワー"
    assert marked("a b c", '"a b" "b c" b') == "[a b c]"
    far = "needle " + "hay " * 100 + "needle thread " + "hay " * 100
    assert marked(far, "needle thread") == (
        "…hay hay hay hay hay hay hay hay hay [needle] [thread]" + " hay" * 26 + "…"
    )
    assert marked("x" * 500 + "東" + "x" * 500, "東").count("…") == 2


@given(st.text("ab é東\n.", max_size=500), st.sampled_from(["a", "b*", '"a b"', "a é", "東"]))
def test_snippets_show_what_they_say(text: str, query: str) -> None:
    """A snippet is a part of the text, not too long, with matches inside it that do not overlap."""
    text, parsed = normal(text), parse_query(query)
    snippet, matches = cut(text, parsed)
    inner = snippet.removeprefix("…").removesuffix("…")
    assert inner in text
    assert len(inner) <= LENGTH
    edges = [edge for span in matches for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= len(snippet) for start, end in matches)
    if fits(parsed, text):
        assert matches


def fits(query: Query, text: str) -> bool:
    """Whether a scan finds a text."""
    scan = Scan(query)
    scan.look(Found("s", 1, 0, 1, Said("user", text)))
    return bool(scan.matches)
