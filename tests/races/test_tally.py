"""The count that the races trust."""

from __future__ import annotations

from tests.races.race import tally


def test_sound() -> None:
    """Interleaved pairs of two names are sound."""
    found = tally(["a:0", "a:1", "b:0", "b:1", "a:2", "a:3"], {"a": 4, "b": 2})
    assert (found.found, found.harmed, found.split) == (6, False, [])


def test_lost() -> None:
    """A message that is not there is lost."""
    assert tally(["a:0", "a:1", "a:3"], {"a": 4}).lost == ["a:2"]


def test_doubled() -> None:
    """A message that stands twice is doubled."""
    assert tally(["a:0", "a:1", "a:0"], {"a": 2}).doubled == ["a:0"]


def test_disordered() -> None:
    """Messages in another order than they were written in are named."""
    assert tally(["a:1", "a:0"], {"a": 2}).disordered == ["a"]


def test_split() -> None:
    """A pair with something between is split."""
    assert tally(["a:0", "b:0", "a:1", "b:1"], {"a": 2, "b": 2}).split == ["a:0", "b:0"]
