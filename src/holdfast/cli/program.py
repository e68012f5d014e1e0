"""How a call ends: exit codes, errors in words, and no traceback for what is nobody's bug.

0 done; 1 a promise or a check failed; 2 wrong use; 3 the store cannot be reached; 130 interrupted.
When the reader of a pipe goes away the code is 141, as shells have it, so that a check whose answer
nobody heard does not look passed.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import click

from holdfast.cli.escaping import json_text, visible_body
from holdfast.cli.options import Settings
from holdfast.errors import (
    ConfigError,
    HoldfastError,
    InvalidArgument,
    InvalidExport,
    NotSupported,
    OutcomeUnknown,
    SessionNotFound,
    Unavailable,
)

DONE, FAILED, WRONG_USE, UNREACHABLE, INTERRUPTED, UNHEARD = 0, 1, 2, 3, 130, 141
# What is wrong with a setting is wrong use; all else is about the store's place.
_SETTINGS = {ConfigError.default_code, "no_model", "missing_extra", "no_tool"}
_COMPLETION = "_HOLDFAST_COMPLETE"


class CommandGroup(click.Group):
    """A group that may stand alone, and suggests the command that was meant by a mistyped one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"invoke_without_command": True})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; say which one may have been meant."""
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        root = ctx.find_root()
        meant = _meant(name, ctx.command_path, list(_paths(root.command, root.command_path)))
        hint = f" Did you mean '{meant}'?" if meant else ""
        raise click.UsageError(f"there is no command '{name}'.{hint}", ctx)


class Program(CommandGroup):
    """The outermost group: whatever happens inside becomes an exit code and words."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - click's signature
        **extra: Any,
    ) -> Any:
        """Run the command line and exit."""
        if not standalone_mode or _COMPLETION in os.environ:
            return super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal without UTF-8 shows an escape rather than ending the command.
                stream.reconfigure(errors="backslashreplace")
        line = list(sys.argv[1:] if args is None else args)
        extra.setdefault("obj", Settings())
        sys.exit(self._run(line, extra))

    def _run(self, line: list[str], extra: dict[str, Any]) -> int:
        try:
            code = self._outcome(line, extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            return UNHEARD
        except KeyboardInterrupt:
            return _interrupted()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            _forget_output()
            _refuse(f"the output cannot be written: {error.strerror}", code="output")
            return FAILED
        return code

    def _outcome(self, line: list[str], extra: dict[str, Any]) -> int:
        settings: Settings = extra["obj"]
        # A line that could not be read to its end has not told the settings everything.
        as_json = "--json" in line[: line.index("--") if "--" in line else None]
        try:
            with self.make_context("holdfast", line, **extra) as context:
                self.invoke(context)
        except click.exceptions.Exit as end:
            return end.exit_code
        except (KeyboardInterrupt, click.Abort):
            return _interrupted()
        except HoldfastError as error:
            hint = hint_for(error, settings.place)
            _refuse(error.message, code=error.code, hint=hint, as_json=as_json)
            return exit_code(error)
        except click.ClickException as error:
            path = (
                error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
            )
            hint = f"{path} --help shows how" if path else ""
            _refuse(error.format_message(), code="usage", hint=hint, as_json=as_json)
            return WRONG_USE
        return DONE


def exit_code(error: HoldfastError) -> int:
    """Return the code that stands for an error."""
    match error:
        case ConfigError(code=code):
            return WRONG_USE if code in _SETTINGS else UNREACHABLE
        case NotSupported(code="newer_schema"):
            return UNREACHABLE
        case InvalidExport() | InvalidArgument(code="unknown_label"):
            return FAILED
        case InvalidArgument() | NotSupported():
            return WRONG_USE
        case Unavailable() | OutcomeUnknown():
            return UNREACHABLE
        case _:
            return FAILED


def show_help_alone(context: click.Context) -> None:
    """Show a group's help if no command of it was named."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def hint_for(error: HoldfastError, place: str) -> str:
    """Return what to do in the words of the command line, where the error speaks of the API."""
    if isinstance(error, ConfigError) and error.code == "no_model":
        return "set one of them, or say --model offline, which needs neither a key nor a network"
    if not isinstance(error, SessionNotFound):
        return error.hint.replace('model="offline"', "--model offline")
    looked = f"; this looked in {place}" if place else ""
    return f"holdfast session list shows what there is{looked}"


def _refuse(message: str, *, code: str, hint: str = "", as_json: bool = False) -> None:
    if as_json:
        click.echo(json_text({"error": {"code": code, "message": message, "hint": hint}}), err=True)
        return
    click.echo(click.style("Error: ", fg="red", bold=True) + visible_body(message), err=True)
    if hint:
        click.echo(click.style("Hint:  ", bold=True) + visible_body(hint), err=True)


def _interrupted() -> int:
    # A terminal has just echoed ^C without ending the line.
    click.echo("\nInterrupted." if sys.stderr.isatty() else "Interrupted.", err=True)
    return INTERRUPTED


def _forget_output() -> None:
    """Let the interpreter's last flush go nowhere: it would complain once more."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _paths(command: click.Command, path: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield f"{path} {name}"
            yield from _paths(child, f"{path} {name}")


def _meant(name: str, here: str, paths: list[str]) -> str | None:
    """Return the command that a mistyped name is closest to: of this group first, then of any."""
    near = {path.rpartition(" ")[2]: path for path in paths if path.rpartition(" ")[0] == here}
    anywhere = {path.rpartition(" ")[2]: path for path in reversed(paths)}
    for choices in (near, anywhere):
        found = get_close_matches(name, choices, n=1)
        if found:
            return choices[found[0]]
    return None
