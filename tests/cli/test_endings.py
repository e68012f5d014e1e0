"""Exit codes, errors, help."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import holdfast
from holdfast import errors
from holdfast.cli.main import cli
from holdfast.cli.program import exit_code
from tests.cli.conftest import Run

COMMANDS = [
    [],
    ["session"],
    ["session", "list"],
    ["session", "show"],
    ["session", "search"],
    ["session", "follow"],
    ["session", "interrupt"],
    ["session", "rename"],
    ["session", "delete"],
    ["session", "fork"],
    ["session", "rewind"],
    ["session", "label"],
    ["export"],
    ["import"],
    ["store"],
    ["store", "copy"],
    ["store", "purge"],
    ["store", "recover"],
    ["store", "stats"],
    ["store", "verify"],
    ["doctor"],
    ["demo"],
]


@pytest.mark.parametrize("line", COMMANDS)
def test_help_is_short_and_has_an_example(run: Run, line: list[str]) -> None:
    """Every command's help fits a screen and shows how it is called."""
    result = run(*line, "--help")
    assert result.exit_code == 0
    assert re.search(r"Examples?:\s+holdfast ", result.stdout)
    assert len(result.stdout.splitlines()) <= 30
    assert "..." not in result.stdout.partition("Commands:")[2]


def test_no_command_shows_the_help(run: Run) -> None:
    """The bare command, and a bare group, show what there is."""
    assert run().stdout == run("--help").stdout
    assert run("session").stdout == run("session", "--help").stdout


def test_version(run: Run) -> None:
    """--version names the program and its version."""
    assert run("--version").stdout == f"holdfast {holdfast.__version__}\n"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (["sesion", "list"], "holdfast session"),
        (["session", "lisst"], "holdfast session list"),
        (["doctr"], "holdfast doctor"),
        (["list"], "holdfast session list"),
        (["verify"], "holdfast store verify"),
        (["session", "verify"], "holdfast store verify"),
    ],
)
def test_a_mistyped_command_suggests_the_right_one(run: Run, line: list[str], meant: str) -> None:
    """A command that does not exist is wrong use, and the message names the one meant."""
    result = run(*line)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        ["zzzzzz"],
        ["session", "show"],
        ["session", "show", "a", "b"],
        ["session", "list", "--limit", "0"],
        ["session", "list", "--limit", "many"],
        ["session", "list", "--nope"],
        ["session", "list", "--cursor", "nonsense"],
        ["session", "show", ""],
        ["session", "show", "x" * 513],
        ["session", "list", "--tenant", ""],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_use(run: Run, path: Path, line: list[str], *, as_json: bool) -> None:
    """Wrong arguments exit with 2 and say what is wrong, in words or as JSON, on stderr."""
    result = run("--store", str(path), *line, *(["--json"] if as_json else []))
    assert result.exit_code == 2
    assert result.stdout == ""
    if as_json:
        error = json.loads(result.stderr)["error"]
        assert sorted(error) == ["code", "hint", "message"]
        assert error["message"]
    else:
        assert result.stderr.startswith("Error: ")


def test_an_error_as_json(run: Run, path: Path) -> None:
    """With --json an error is one object with code, message and hint, wherever --json stands."""
    for line in (
        ["--json", "session", "show", "nope", "--store", str(path)],
        ["--store", str(path), "session", "--json", "show", "nope"],
        ["session", "show", "nope", "--store", str(path), "--json"],
    ):
        result = run(*line)
        assert result.exit_code == 1
        error = json.loads(result.stderr)["error"]
        assert error["code"] == "session_not_found"
        assert "nope" in error["message"]
        assert str(path) in error["hint"]


def test_the_options_of_the_command_win(run: Run, path: Path) -> None:
    """An option behind the command wins over the same one before it."""
    line = ["--store", "/nowhere/x.db", "session", "--store", "y.db", "list", "--store", str(path)]
    assert "trip" in run(*line).stdout


def test_json_may_be_a_title(run: Run, path: Path) -> None:
    """What stands behind -- is an argument, even if it looks like an option."""
    result = run("--store", str(path), "session", "rename", "trip", "--", "--json")
    assert result.stderr == "Session trip is now called --json.\n"
    failed = run("--store", str(path), "session", "rename", "--", "--json", "x")
    assert failed.stderr.startswith("Error: there is no session '--json'\n")


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """An interrupted command exits with 130 and one line."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(holdfast.SessionStore, "verify", interrupted)
    result = CliRunner().invoke(cli, ["store", "verify", "--store", str(path)])
    assert result.exit_code == 130
    assert result.output == "Interrupted.\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Unavailable("x"), 3),
        (errors.OutcomeUnknown("x"), 3),
        (errors.ConfigError("x"), 2),
        (errors.ConfigError("x", code="not_ours"), 3),
        (errors.ConfigError("x", code="not_durable"), 3),
        (errors.NotSupported("x"), 2),
        (errors.NotSupported("x", code="newer_schema"), 3),
        (errors.InvalidArgument("x"), 2),
        (errors.InvalidMessage("x"), 2),
        (errors.SessionNotFound("x"), 1),
        (errors.Conflict("x"), 1),
        (errors.CorruptEntry("x"), 1),
        (errors.WrongUser("x"), 1),
        (errors.Purged("x"), 1),
    ],
)
def test_exit_codes(error: errors.HoldfastError, code: int) -> None:
    """Each kind of error has the exit code that the documents state."""
    assert exit_code(error) == code
