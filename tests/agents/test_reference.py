"""The reference page of agents says what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import holdfast.agents
from holdfast.agents import Agent, ManagedAgent, ManagedConfig, MemoryConfig, Notice, Reply

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/agents.md").read_text("utf-8")


@pytest.mark.parametrize("kind", [Agent, ManagedAgent, ManagedConfig, MemoryConfig])
def test_signatures(kind: type) -> None:
    """What is made with arguments stands there with exactly these."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(kind).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    signature = str(inspect.Signature(parameters)).replace("<class 'str'>", "str")
    assert f"`{kind.__name__}{signature}`" in PAGE


@pytest.mark.parametrize("kind", [Agent, ManagedAgent, Reply, Notice])
def test_every_name_is_described(kind: type) -> None:
    """Each public attribute and method of a class is named in its section."""
    section = PAGE.split(f"\n## {kind.__name__}\n")[1].split("\n## ")[0]
    public = {name for name in dir(kind) if not name.startswith("_")}
    if kind is Reply:
        public -= {
            "begin",
            "begin_here",
            "begin_anywhere",
            "go_through",
        }  # described with who gives one out
    missing = {name for name in public if not re.search(rf"\b{name}\b", section)}
    assert missing == set()


def test_every_public_name_stands_there() -> None:
    """Each name that the package offers is on the page."""
    names = holdfast.agents.__all__
    assert [name for name in names if not re.search(rf"\b{name}\b", PAGE)] == []
