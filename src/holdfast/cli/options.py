"""The options and arguments that commands share, and the store that some of them lead to."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from holdfast.cli.escaping import visible
from holdfast.cli.printing import say
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.model.session import Point
    from holdfast.store.backend import Backend
    from holdfast.store.postgres.backend import PostgresBackend
    from holdfast.store.sync_store import SessionStore

F = TypeVar("F", bound=Callable[..., Any])

AT_HELP = "As it was: a revision, a label, a turn, or -N turns back."
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(slots=True)
class Settings:
    """What `--store`, `--tenant` and `--json` said, wherever on the line they stood.

    As soon as a command has opened a store, `place` is where it looked, for people, and
    `overwrites` whether Holdfast itself overwrites there what was deleted; `named_by` is what on
    the line says the address.
    """

    url: str | None = None
    tenant: str | None = None
    as_json: bool = False
    place: str = ""
    overwrites: bool = True
    named_by: str = "--store"

    @property
    def source(self) -> str:
        """Where the store's address comes from."""
        if self.url is not None:
            return self.named_by
        return "HOLDFAST_URL" if os.environ.get("HOLDFAST_URL") else "the default"

    @property
    def elsewhere(self) -> str:
        """How another store is named, to be said in hints."""
        return " with --store or HOLDFAST_URL" if self.named_by == "--store" else ""


def settings_of(context: click.Context) -> Settings:
    """Return the one `Settings` of a call; each part of the line adds what it says."""
    root = context.find_root()
    if not isinstance(root.obj, Settings):
        root.obj = Settings()
    return root.obj


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and value is not False:
        setattr(settings_of(context), str(parameter.name), value)


def global_options(command: F) -> F:
    """Give a command or a group the three options that all of them share."""
    for option in (
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="Print JSON.",
        ),
        click.option(
            "--tenant",
            metavar="NAME",
            expose_value=False,
            callback=_remember,
            help="Whose sessions; else HOLDFAST_TENANT.",
        ),
        click.option(
            "--store",
            "url",
            metavar="URL",
            expose_value=False,
            callback=_remember,
            help="A path or URL; else HOLDFAST_URL.",
        ),
    ):
        command = option(command)
    return command


def backend_of(settings: Settings) -> Backend:
    """Return the backend that the settings name, not opened: nothing is touched yet."""
    from holdfast.store.sources import Sources
    from holdfast.store.urls import backend_for, default_url

    url = default_url() if settings.url is None else settings.url
    return backend_for(url, durability="full", timeout_s=1.0, sources=Sources())


def open_store(settings: Settings) -> SessionStore:
    """Open the store that the settings name; one that is not there is never made.

    One with an older schema is refused: looking at a store must not change it for its workers.
    """
    from holdfast.store.connect import connect

    settings.overwrites = existing_backend(settings).capabilities.overwrites
    store = connect(settings.url, tenant=settings.tenant, migrate=False)
    _note_place(store, settings)
    return store


def open_or_make_store(settings: Settings) -> SessionStore:
    """Open the store that the settings name; make one that is not there, and say where."""
    from holdfast.store.connect import connect

    try:
        return open_store(settings)
    except ConfigError as error:
        if error.code != "no_store":
            raise
    store = connect(settings.url, tenant=settings.tenant)
    _note_place(store, settings)
    say(f"There was no store at {visible(store.location)} (from {settings.source}): made one.")
    return store


def _note_place(store: SessionStore, settings: Settings) -> None:
    settings.place = visible(store.location)
    if store.tenant != "default":
        settings.place += f" (tenant {visible(store.tenant)})"


def erasing(settings: Settings) -> str:
    """Return what becomes of bytes whose erasure is pending."""
    if settings.overwrites:
        return (
            "a reader still holds some of the bytes, or erasing takes long, "
            "and a later write erases them (holdfast doctor shows whether)"
        )
    return (
        "its place is free for other rows after the server's next vacuum (holdfast doctor shows "
        "whether), and archives, replicas and backups keep what they have"
    )


def existing_backend(settings: Settings) -> Backend:
    """Return the backend that the settings name, not opened; refuse a file that is not there."""
    from holdfast.store.sqlite.backend import SqliteBackend

    backend = backend_of(settings)
    if isinstance(backend, SqliteBackend):
        _require_store(Path(backend.location), settings)
    return backend


def as_postgres(backend: Backend) -> PostgresBackend | None:
    """Return the backend if it is PostgreSQL's, whose driver others need not have."""
    module = sys.modules.get("holdfast.store.postgres.backend")
    found = module is not None and isinstance(backend, module.PostgresBackend)
    return cast("PostgresBackend", backend) if found else None


def point(text: str) -> Point:
    """Return a revision, -n or a label: what reads as a number is one."""
    from holdfast.rules.arguments import reads_as_number

    if not text:
        raise click.BadParameter("an empty text is no revision and no label")
    return int(text) if reads_as_number(text) else text


def length_of_time(text: str) -> timedelta:
    """Return a length of time, such as 30d."""
    found = re.fullmatch(r"([0-9]{1,9})([mhdw])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no age: write 90m, 12h, 30d or 8w")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        return timedelta.max


def confirm(context: click.Context, question: str, verb: str, done: str) -> None:
    """Ask, where somebody can answer; a script has to say --yes."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"nothing was {done}: say --yes to {verb} without asking", context)
    if not click.confirm(question, err=True):
        say(f"Nothing was {done}.")
        context.exit(1)


def _require_store(path: Path, settings: Settings) -> None:
    """Refuse a file that is not there, or empty: connecting would make a store of it."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        size = 0
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be opened: {error.strerror}",
            code="cannot_open",
            hint="check the path, and that this user may enter its folder",
        ) from error
    if size:
        return
    if not path.parent.is_dir():
        raise ConfigError(
            f"there is no folder {path.parent} for the store {path} (from {settings.source})",
            code="no_store",
            hint=f"name another one{settings.elsewhere}",
        )
    raise ConfigError(
        f"there is no store at {path} (from {settings.source})",
        code="no_store",
        hint=f"name another one{settings.elsewhere}; a program makes one when it connects: "
        f"python -c 'import holdfast; holdfast.connect({_argument(settings)})'",
    )


def _argument(settings: Settings) -> str:
    # Inside the hint's single quotes a name that holds quotes itself would not be a command.
    plain = settings.url is not None and not set(settings.url) & set("'\"\\$`!")
    return f'"{settings.url}"' if plain else "..." if settings.url is not None else ""
