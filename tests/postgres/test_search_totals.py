"""How much the index has of a tenant with many sessions is remembered for a while."""

from __future__ import annotations

import pytest

import holdfast
from holdfast.store.postgres import searching
from holdfast.store.sources import Sources
from tests.postgres.recording import recording
from tests.stores import schema_of


def test_many_sessions_are_counted_seldom(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted once in ten seconds, and what was found meanwhile is ranked all the same."""
    monkeypatch.setattr(searching, "MANY_SESSIONS", 2)
    now = 0.0
    sources = Sources(monotonic_s=lambda: now)
    with (
        recording(schema_of(schema)) as asked,
        holdfast.connect(schema, sources=sources) as store,
    ):

        def counts() -> int:
            return [each.name for each in asked].count("count_indexed")

        store.add_user_message("a", "hello there")
        for expected in (1, 2):
            assert len(store.search("hello there")) == 1
            assert counts() == expected  # so few are counted each time
        store.add_user_message("b", "hello there")
        assert len(store.search("hello there")) == 2
        for name in "cdefgh":
            store.add_user_message(name, "hello" + " there" * ord(name))
        # By now more messages have these words than were counted.
        assert [hit.session_id for hit in store.search("hello there")][:2] == ["b", "a"]
        assert counts() == 3
        now = searching.KEPT_S
        store.search("hello there")
        assert counts() == 4
