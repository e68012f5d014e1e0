"""`holdfast store copy`: all sessions of one store, in another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from holdfast.cli.escaping import visible
from holdfast.cli.options import (
    Settings,
    as_postgres,
    backend_of,
    existing_backend,
    global_options,
    settings_of,
)
from holdfast.cli.printing import Column, plural, print_json, print_rich, say, size, table
from holdfast.cli.program import FAILED
from holdfast.errors import ConfigError, NotSupported

if TYPE_CHECKING:
    from rich.progress import TaskID

    from holdfast.model.moving import Moved, Progress
    from holdfast.store.backend import Backend
    from holdfast.store.engine import Engine

_ADVICE = {
    "behind": "Stop whoever writes to {source}, and run it again.",
    "conflict": "What {target} has under these ids was left as it is; delete it there, or export "
    "it from one and import it into the other under another id.",
    "corrupt": "holdfast store verify shows what is damaged; restore that store from a backup.",
    "deleted": "Delete these in {target} too, unless they are to live on there.",
    "different": "{source} was put back to an earlier state, or changed by hand: delete these in "
    "{target}, and run it again.",
}
_COLUMNS = (Column("tenant"), Column("session", style="cyan"), Column("problem"))


@click.command("copy")
@click.argument("source_url", metavar="SOURCE")
@click.argument("target_url", metavar="TARGET")
@global_options
@click.pass_context
def copy_command(context: click.Context, source_url: str, target_url: str) -> None:
    """Copy all sessions into another store, and check them.

    SOURCE and TARGET are paths or URLs. Those of every tenant, unless --tenant names one. Whatever
    ends it, the same command goes on from there, and brings up to date what changed in SOURCE
    since. Never touches a session of TARGET that is no copy or was written to: exits with 1, as
    for everything of SOURCE that is not in TARGET afterwards.

    Example: holdfast store copy chats.db sqlite:////srv/chats.db
    """
    settings = settings_of(context)
    if settings.url is not None:
        raise click.UsageError(
            "the stores are named as SOURCE and TARGET, not with --store", context
        )
    from holdfast.rules.arguments import check_id
    from holdfast.store.moving import Moving

    tenants = None if settings.tenant is None else [check_id(settings.tenant, "tenant")]
    source = _source(source_url)
    with closing(source), closing(_target(target_url)) as target, _watching() as watch:
        if postgres := as_postgres(target.backend):
            postgres.require_writable()
        places = source.location, target.backend.location
        moved = Moving(source, target, tenants=tenants, watch=watch).run()
    if settings.as_json:
        named = {"source": places[0], "target": places[1], "ok": bool(moved)}
        print_json({**named, **to_builtins(moved)})
    else:
        _tell(moved, *map(visible, places))
    if not moved:
        context.exit(FAILED)


def _source(url: str) -> Backend:
    source = existing_backend(Settings(url=url, named_by="SOURCE"))
    _require_durable(source)
    source.open(migrate=False)
    return source


def _target(url: str) -> Engine:
    from holdfast.store.connect import TIMEOUT_S, open_engine
    from holdfast.store.sources import Sources

    _require_durable(backend_of(Settings(url=url)))
    try:
        return open_engine(url, "full", TIMEOUT_S, Sources(), migrate=False)
    except ConfigError as error:
        if error.code != "no_store":
            raise
    return open_engine(url, "full", TIMEOUT_S, Sources(), migrate=True)  # a new one


def _require_durable(backend: Backend) -> None:
    if not backend.capabilities.durable:
        raise NotSupported(
            "a store in memory ends with the command: there is nothing to copy from or to",
            hint="name a file or a server",
        )


@contextmanager
def _watching() -> Iterator[Callable[[Progress], None]]:
    """Lend what is to be told of the progress: a bar on a terminal; say on Ctrl-C what is done."""
    last: Progress | None = None

    def remember(progress: Progress) -> None:
        nonlocal last
        last = progress

    try:
        if not sys.stderr.isatty():
            yield remember
            return
        with _bar() as draw:

            def show(progress: Progress) -> None:
                remember(progress)
                draw(progress)

            yield show
    except KeyboardInterrupt:
        if last is not None:
            done = f"{last.phase} {last.sessions:,} of {plural(last.of_sessions, 'session')}"
            say(f"Stopped after {done}. The same command goes on from there.")
        raise


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[sessions]}", markup=False),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as drawn:
        tasks: dict[str, TaskID] = {}

        def draw(progress: Progress) -> None:
            sessions = f"{progress.sessions:,} of {plural(progress.of_sessions, 'session')}"
            if progress.phase not in tasks:
                tasks[progress.phase] = drawn.add_task(
                    progress.phase, total=progress.of_entries, sessions=sessions
                )
            drawn.update(tasks[progress.phase], completed=progress.entries, sessions=sessions)

        yield draw


def _tell(moved: Moved, source: str, target: str) -> None:
    if moved.troubles:
        rows = [(one.tenant, one.session_id or "the store", one.what) for one in moved.troubles]
        print_rich(table(_COLUMNS, rows))
        say("")
    say(
        f"Copied {plural(moved.copied, 'session')} from {source} to {target}, brought "
        f"{moved.updated:,} up to date, found {moved.unchanged:,} there already: "
        f"{plural(moved.messages, 'message')}, {size(moved.size_bytes)}, {moved.seconds:,.1f} s."
    )
    compared = f"Compared {plural(moved.checked, 'session')}"
    if moved:
        say(f"{compared}: {target} has all of it.")
        return
    say(f"{compared}: {plural(len(moved.troubles), 'problem')}.")
    for kind in sorted({one.kind for one in moved.troubles}):
        say(_ADVICE[kind].format(source=source, target=target))
