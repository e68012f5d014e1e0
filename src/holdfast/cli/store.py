"""`holdfast store`: how much there is, whether it is what was written, and its schema."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins
from msgspec.structs import asdict

from holdfast.cli.escaping import visible
from holdfast.cli.options import (
    Settings,
    as_postgres,
    existing_backend,
    global_options,
    open_store,
    settings_of,
)
from holdfast.cli.printing import (
    Column,
    facts,
    plural,
    print_json,
    print_line,
    print_rich,
    say,
    size,
    table,
)
from holdfast.cli.program import FAILED, CommandGroup, show_help_alone
from holdfast.errors import NotSupported

if TYPE_CHECKING:
    from holdfast.model.usage import ModelUsage, UsageTotals
    from holdfast.rules.verification import Problem
    from holdfast.store.backend import Backend, SchemaState
    from holdfast.store.sync_store import SessionStore

_PROBLEM_COLUMNS = (
    Column("session", style="cyan"),
    Column("revision", right=True),
    Column("problem"),
)


@click.group("store", cls=CommandGroup)
@global_options
@click.pass_context
def store_group(context: click.Context) -> None:
    """Count, check, purge and migrate what a store holds.

    Example: holdfast store verify
    """
    show_help_alone(context)


@store_group.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@global_options
@click.pass_context
def stats(context: click.Context, session_id: str | None) -> None:
    """Count sessions, messages, entries and tokens.

    Example: holdfast store stats --json
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        counts = store.stats(session_id)
        if settings.as_json:
            print_json({"store": store.location, "tenant": store.tenant, **to_builtins(counts)})
            return
    print_rich(
        facts(
            [
                ("Store", settings.place),
                *([("Session", session_id)] if session_id is not None else []),
                ("Sessions", f"{counts.sessions:,}"),
                ("Messages", f"{counts.messages:,} in the current histories"),
                ("Entries", f"{counts.entries:,} in the logs"),
                ("Generations", f"{counts.generations:,}"),
                ("Size", f"{size(counts.size_bytes)} (the whole store)"),
                *_used(counts.usage),
            ]
        )
    )
    if not counts.sessions:
        say(f"\nNo sessions in {settings.place}.")


@store_group.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@global_options
@click.pass_context
def verify(context: click.Context, session_id: str | None) -> None:
    """Recompute every checksum and count.

    Exits with 1 if anything is not as it was written.

    Example: holdfast store verify user-42
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        with _working(store, session_id):
            found = store.verify(session_id)
        if settings.as_json:
            place = {"store": store.location, "tenant": store.tenant}
            print_json({**place, "ok": bool(found), **to_builtins(found)})
    if not settings.as_json:
        checked = (
            f"{plural(found.sessions, 'session')}, {plural(found.messages, 'message')}, "
            f"{plural(found.entries, 'entry')}"
        )
        if found:
            state = "all is well" if found.sessions else "no sessions"
            print_line(f"Checked {settings.place}: {checked}: {state}.")
        else:
            print_rich(table(_PROBLEM_COLUMNS, [_row(problem) for problem in found.problems]))
            print_line(
                f"\nChecked {settings.place}: {checked}: "
                f"{plural(len(found.problems), 'problem')}.\n"
                f"{_rescue(store.location)}; sessions that are not named here are whole."
            )
    if not found:
        context.exit(FAILED)


@store_group.command()
@click.option("--before", is_flag=True, help="Only prepare: workers of the old version go on.")
@click.option("--print-sql", is_flag=True, help="Change nothing; print SQL for PostgreSQL.")
@click.option("--role", metavar="NAME", help="With --print-sql: grant NAME what a program needs.")
@global_options
@click.pass_context
def migrate(context: click.Context, *, before: bool, print_sql: bool, role: str | None) -> None:
    """Bring a store that an older Holdfast made up to date.

    Programs that connect do so by themselves, unless they say migrate=False. For workers that are
    replaced one by one: run it with --before, replace them all, then run it without.

    In PostgreSQL it makes the schema as well, if there is none. --print-sql is for those who apply
    schemas by hand: it prints what has to be run, as one transaction.

    Example: holdfast store migrate --before
    """
    settings = settings_of(context)
    if role is not None and not print_sql:
        raise click.UsageError("--role goes with --print-sql: it prints what to grant", context)
    backend = existing_backend(settings)
    if print_sql:
        _print_script(settings, backend, before_only=before, role=role)
        return
    found, now = backend.migrate(before_only=before)
    if settings.as_json:
        print_json({"store": backend.location, "found": asdict(found), "now": asdict(now)})
        return
    place = visible(backend.location)
    if now == found:
        print_line(f"{place} is up to date: schema version {_version(now)}.")
    elif not found.prepared:
        print_line(f"{place}: made a store with schema version {_version(now)}.")
    else:
        print_line(f"{place}: schema version {_version(found)} before, {_version(now)} now.")
    if now.prepared > now.version:
        say("Once every worker has the new version, run it again without --before.")


def _print_script(
    settings: Settings, backend: Backend, *, before_only: bool, role: str | None
) -> None:
    postgres = as_postgres(backend)
    if postgres is None:
        raise NotSupported(
            f"{backend.location} is migrated by Holdfast itself, not by SQL",
            hint="say holdfast store migrate without --print-sql",
        )
    script = postgres.migration_by_hand(before_only=before_only, role=role)
    if script.note:
        say(script.note)
    if settings.as_json:
        print_json({"store": backend.location, "sql": script.sql})
    else:
        click.echo(script.sql, nl=False)


def _used(usage: UsageTotals) -> Iterator[tuple[str, str]]:
    """Yield what model calls used: all of them, then each model's."""
    if not usage.requests:
        return
    yield "Usage", _tokens(usage)
    for model, used in usage.models.items():
        yield f"  {model or '(no name)'}", _tokens(used)


def _tokens(used: UsageTotals | ModelUsage) -> str:
    cached = f" ({used.cached_tokens:,} cached)" if used.cached_tokens else ""
    unknown = f", {used.unknown:,} of them unknown" if used.unknown else ""
    return (
        f"{used.input_tokens:,} tokens in{cached}, {used.output_tokens:,} out, "
        f"{plural(used.requests, 'request')}{unknown}"
    )


def _version(state: SchemaState) -> str:
    ahead = f" (prepared for {state.prepared})" if state.prepared > state.version else ""
    return f"{state.version}{ahead}"


def _row(problem: Problem) -> tuple[str, str, str]:
    revision = "" if problem.revision is None else str(problem.revision)
    return (problem.session_id or "the store", revision, problem.what)


def _rescue(location: str) -> str:
    """Return what to do first where something is damaged."""
    if location.startswith(("postgresql:", "postgres:")):
        return "Keep a dump of the schema (pg_dump), then restore it from a backup"
    return "Keep a copy of the file, then restore it from a backup"


@contextmanager
def _working(store: SessionStore, session_id: str | None) -> Iterator[None]:
    """Show on a terminal that something happens, and how much there is of it."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    if session_id is None:
        counts = store.stats()
        what = f"{plural(counts.sessions, 'session')}, {plural(counts.messages, 'message')}"
    else:
        what = f"session {visible(session_id)}"
    columns = (
        SpinnerColumn(),
        TextColumn("checking {task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield
