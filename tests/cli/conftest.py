"""A store to look at, and the command line to look at it with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli.main import cli

Run: TypeAlias = Callable[..., Result]


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of whoever runs the tests decides nothing."""
    for name in ("HOLDFAST_URL", "HOLDFAST_TENANT", "FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def run() -> Run:
    """Runs the command line in this process; its result has stdout, stderr and exit_code."""

    def run(*line: str) -> Result:
        result = CliRunner().invoke(cli, line)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with two sessions, closed."""
    place = tmp_path / "chats.db"
    with holdfast.connect(str(place)) as store:
        store.create_session("other")
        store.create_session(
            "trip", title="To Lisbon", user_id="alice", agent_name="guide", metadata={"lang": "pt"}
        )
        store.add_user_message("trip", "Will it rain?")
        call = {"id": "call_1", "function": {"name": "weather", "arguments": '{"city":"Lisbon"}'}}
        store.add_message("trip", "assistant", None, tool_calls=[call])
        store.add_message("trip", "tool", "sunny", tool_call_id="call_1")
        store.add_assistant_message("trip", "No\nrain", metadata={"state": "interrupted"})
    return place
