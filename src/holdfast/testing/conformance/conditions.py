"""Cases of what a write may require: an expected revision, a key that was not used."""

from __future__ import annotations

from typing import Final

from holdfast.testing.conformance.steps import (
    CONFLICT,
    GONE,
    KEY_REUSED,
    Add,
    Case,
    Clear,
    Create,
    Delete,
    Mark,
    Read,
    Rename,
    Save,
)

EXPECTATIONS: Final = (
    Case(
        id="expected",
        promise="A write whose expectation holds is done.",
        steps=(Add(texts="a"), Read("h"), Add(texts="b", expected="h")),
        leaves="a b",
    ),
    Case(
        id="expected-outdated",
        promise="A write whose expectation does not hold any more is a conflict.",
        steps=(
            Add(texts="a"),
            Read("h"),
            Add(texts="b"),
            Add(texts="c", expected="h", refused=CONFLICT),
        ),
        leaves="a b",
    ),
    Case(
        id="expected-across-metadata",
        promise="A change of metadata does not break an expectation.",
        steps=(Add(texts="a"), Read("h"), Rename(), Add(texts="b", expected="h")),
        leaves="a b",
    ),
    Case(
        id="expected-metadata",
        promise="The session's last revision is as good an expectation as the history's.",
        steps=(Add(texts="a"), Rename(), Mark("m"), Rename(), Add(texts="b", expected="m")),
        leaves="a b",
    ),
    Case(
        id="expected-after-clear",
        promise="A clear breaks an expectation.",
        steps=(Add(texts="a"), Read("h"), Clear(), Add(texts="b", expected="h", refused=CONFLICT)),
        leaves="",
    ),
    Case(
        id="expected-after-rewrite",
        promise="A rewrite breaks an expectation, also one from inside its commit.",
        steps=(
            Add(texts="a"),
            Mark("m"),
            Save(texts="x"),
            Add(texts="b", expected="m", refused=CONFLICT),
        ),
        leaves="x",
    ),
    Case(
        id="expected-0-unknown",
        promise="Revision 0 is an unknown session's: the write creates it.",
        steps=(Add(texts="a", expected=0),),
        leaves="a",
    ),
    Case(
        id="expected-0-known",
        promise="Revision 0 of a session that exists is a conflict.",
        steps=(Add(texts="a"), Add(texts="b", expected=0, refused=CONFLICT)),
        leaves="a",
    ),
    Case(
        id="expected-0-empty",
        promise="Revision 0 of a session that exists is a conflict, also if it is empty.",
        steps=(Create(), Add(texts="b", expected=0, refused=CONFLICT)),
        leaves="",
    ),
    Case(
        id="expected-unknown",
        promise="An expectation above 0 never creates a session.",
        steps=(Add(texts="a", expected=7, refused=GONE),),
        leaves=None,
    ),
    Case(
        id="expected-deleted",
        promise="An expectation of a deleted session never creates one.",
        steps=(Add(texts="a"), Read("h"), Delete(), Add(texts="b", expected="h", refused=GONE)),
        leaves=None,
    ),
    Case(
        id="expected-recreated",
        promise="An expectation of a deleted session never holds in its successor.",
        steps=(
            Add(texts="a"),
            Read("h"),
            Delete(),
            Add(texts="a"),
            Add(texts="b", expected="h", refused=CONFLICT),
        ),
        leaves="a",
    ),
    Case(
        id="expected-ahead",
        promise="A revision that the session has not come to is a conflict.",
        steps=(Add(texts="a"), Add(texts="b", expected=(1 << 60), refused=CONFLICT)),
        leaves="a",
    ),
)

KEYS: Final = (
    Case(
        id="key-add",
        promise="The same key again writes nothing and gives the first outcome.",
        steps=(Add(texts="a", key="k"), Add(texts="b"), Add(texts="a", key="k", replayed=True)),
        leaves="a b",
    ),
    Case(
        id="key-contents",
        promise="The recorded outcome wins; contents are not compared.",
        steps=(Add(texts="a", key="k"), Add(texts="z", key="k", replayed=True)),
        leaves="a",
    ),
    Case(
        id="key-expected",
        promise="A retry is a replay, though its own first try made its expectation outdated.",
        steps=(
            Add(texts="a"),
            Read("h"),
            Add(texts="b", expected="h", key="k"),
            Add(texts="c"),
            Add(texts="b", expected="h", key="k", replayed=True),
        ),
        leaves="a b c",
    ),
    Case(
        id="key-after-rewrite",
        promise="A key outlives a rewrite of the history.",
        steps=(
            Add(texts="a", key="k"),
            Read("h"),
            Save(on="h", texts="x"),
            Add(texts="a", key="k", replayed=True),
        ),
        leaves="x",
    ),
    Case(
        id="key-after-clear",
        promise="A key outlives a clear.",
        steps=(Add(texts="a", key="k"), Clear(), Add(texts="a", key="k", replayed=True)),
        leaves="",
    ),
    Case(
        id="key-save",
        promise="A save's key makes it happen once.",
        steps=(
            Add(texts="a"),
            Read("one"),
            Read("two"),
            Save(on="one", texts="a b", key="k"),
            Save(on="two", texts="a b", key="k", replayed=True),
        ),
        leaves="a b",
    ),
    Case(
        id="key-save-kept",
        promise="A replayed rewrite says what it kept the first time, and is no conflict.",
        steps=(
            Add(texts="a"),
            Read("one"),
            Read("two"),
            Add(texts="b"),
            Save(on="one", texts="x", key="k", kept=1),
            Add(texts="c"),
            Save(on="two", texts="x", key="k", kept=1, replayed=True),
        ),
        leaves="x b c",
    ),
    Case(
        id="key-replace",
        promise="A replayed replacement does not replace again.",
        steps=(
            Save(texts="a", key="k"),
            Add(texts="b"),
            Save(texts="a", key="k", replayed=True),
        ),
        leaves="a b",
    ),
    Case(
        id="key-reused-save",
        promise="A key of an add is refused for a save.",
        steps=(Add(texts="a", key="k"), Save(texts="x", key="k", refused=KEY_REUSED)),
        leaves="a",
    ),
    Case(
        id="key-reused-add",
        promise="A key of a save is refused for an add.",
        steps=(Save(texts="a", key="k"), Add(texts="x", key="k", refused=KEY_REUSED)),
        leaves="a",
    ),
    Case(
        id="key-conflict",
        promise="A write that was refused does not use up its key.",
        steps=(
            Add(texts="a"),
            Add(texts="b", expected=0, key="k", refused=CONFLICT),
            Add(texts="b", key="k"),
        ),
        leaves="a b",
    ),
    Case(
        id="key-deleted",
        promise="A key lives as long as its session.",
        steps=(Add(texts="a", key="k"), Delete(), Add(texts="b", key="k")),
        leaves="b",
    ),
    Case(
        id="key-nothing",
        promise="A write of nothing records its key all the same.",
        steps=(Add(texts="", key="k"), Add(texts="a", key="k", replayed=True)),
        leaves="",
    ),
)
