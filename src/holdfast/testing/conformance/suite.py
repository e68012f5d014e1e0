"""What every class of the suite shares: the subject, and no skip that was not declared."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.model.message import Message
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import DECLARED, Subject


class Conformance:
    """Promises that every backend keeps, as pytest methods.

    Subclass each class of `SUITE` in a test module that has a fixture named `subject`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, refuse_undeclared_skips(test))

    @pytest.fixture
    def store(self, subject: Subject) -> SessionStore:
        """A store of the face under test."""
        return subject.open()


def refuse_undeclared_skips(test: Callable[..., None]) -> Callable[..., None]:
    """Return the test, failing where it would skip without a capability that says so."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            test(*args, **kwargs)
        except pytest.skip.Exception as skipped:
            if not str(skipped).startswith(DECLARED):
                pytest.fail(f"skipped though no capability is declared missing: {skipped}")
            raise

    return run


def user(text: str) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": text}


def users(texts: str) -> list[Message]:
    """Return one user's message for each word."""
    return [user(text) for text in texts.split()]


def texts(messages: list[Message]) -> list[Any]:
    """Return the contents of messages."""
    return [message["content"] for message in messages]
