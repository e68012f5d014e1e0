"""The table of cases, case by case."""

from __future__ import annotations

import pytest

from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.cases import CASES
from holdfast.testing.conformance.playing import Play
from holdfast.testing.conformance.steps import Case
from holdfast.testing.conformance.suite import Conformance, texts


class Preconditions(Conformance):
    """What a write requires, and what it becomes if others wrote first."""

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
    def test_case(self, store: SessionStore, case: Case) -> None:
        """Each rule of saving, expecting and repeating holds, and the log is sound after it."""
        play = Play(store, "s")
        for step in case.steps:
            play.do(step)
        if case.leaves is None:
            assert not store.session_exists("s"), case.promise
            return
        assert texts(store.get_chat_history("s")) == case.leaves.split(), case.promise
        stored = store.get_messages("s")
        assert len({message["id"] for message in stored}) == len(stored)
        assert store.get_session("s").message_count == len(stored)
        assert store.verify().problems == []
