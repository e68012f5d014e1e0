"""`holdfast export` and `holdfast import`: sessions as text, and back."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from holdfast.cli.conflicts import require_new
from holdfast.cli.escaping import visible
from holdfast.cli.options import (
    Settings,
    global_options,
    open_or_make_store,
    open_store,
    settings_of,
)
from holdfast.cli.printing import described, plural, print_json, say
from holdfast.errors import Conflict, InvalidExport, SessionNotFound

if TYPE_CHECKING:
    from holdfast.rules.importing import Export
    from holdfast.store.sync_store import SessionStore

_EVERY = 1 << 60


@click.command("export")
@click.argument("session_ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All sessions of the tenant.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Else stdout."
)
@global_options
@click.pass_context
def export_command(
    context: click.Context, session_ids: tuple[str, ...], output: Path | None, *, every: bool
) -> None:
    """Write sessions down as text.

    It is JSON, an entry of the log a line, and has all that the log holds. A FILE that is there is
    replaced, once everything is written.

    Example: holdfast export user-42 -o user-42.jsonl
    """
    if every == bool(session_ids):
        raise click.UsageError("name the sessions, or say --all", context)
    settings = settings_of(context)
    done: list[str] = []
    with open_store(settings) as store, _target(output) as target:
        wanted = [info.id for info in store.list_sessions(_EVERY)] if every else session_ids
        for name in dict.fromkeys(wanted):
            try:
                text = store.export_session(name)
            except SessionNotFound:
                if every:
                    continue  # deleted since they were listed
                raise
            target.write(text.encode())
            done.append(name)
    if output is None:
        if not done:
            say(f"No sessions in {settings.place}.")
    elif settings.as_json:
        print_json({"file": str(output), "exported": done})
    else:
        where = visible(output)
        say(f"Exported {plural(len(done), 'session')} of {settings.place} to {where}.")


@contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """Lend what is written to; a file is there whole, or as it was."""
    if output is None:
        yield sys.stdout.buffer  # JSON is UTF-8, whatever the terminal is
        return
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise click.FileError(str(output), str(error.strerror)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@click.command("import")
@click.argument("source", metavar="SOURCE", type=click.Path(exists=True, allow_dash=True))
@click.option("--as", "new_id", metavar="ID", help="Under another id, if SOURCE holds one session.")
@click.option("--skip-existing", is_flag=True, help="Leave sessions alone that are there already.")
@click.option(
    "--from",
    "origin",
    type=click.Choice(["holdfast", "praisonai"]),
    help="Whose format it is; else it is recognised.",
)
@global_options
@click.pass_context
def import_command(
    context: click.Context,
    source: str,
    new_id: str | None,
    origin: str | None,
    *,
    skip_existing: bool,
) -> None:
    """Make sessions of exported text, or of PraisonAI's files.

    SOURCE is an exported file, or - for stdin, and is checked to its end first. Or it is a folder
    of PraisonAI's, such as ~/.praisonai, or its sessions.db: these are only read, and the same
    again brings what is new. Sessions that are there already are an error, and then nothing is
    imported, unless --skip-existing is given. Each session is imported whole or not at all. What of
    PraisonAI's cannot be imported is named, and keeps nothing else back: exits with 1. Makes the
    store if there is none.

    Example: holdfast import user-42.jsonl --as user-43
    """
    from holdfast.integrations.praisonai.importing import recognise

    if origin == "praisonai" or (origin is None and source != "-" and recognise(Path(source))):
        from holdfast.cli.praisonai import import_sessions

        if source == "-" or new_id is not None:
            what = "stdin" if source == "-" else "--as"
            raise click.UsageError(f"PraisonAI's files cannot be imported with {what}", context)
        import_sessions(context, Path(source), skip_existing=skip_existing)
        return
    settings = settings_of(context)
    if source != "-" and Path(source).is_dir():
        raise click.UsageError(f"{source} is a folder, and exports are files", context)
    with click.open_file(source, "rb") as file:
        exports = _read(file)
    if new_id is not None and len(exports) != 1:
        held = plural(len(exports), "session")
        raise click.UsageError(f"--as takes one session, and SOURCE holds {held}", context)
    named = [(new_id or export.session_id, export) for export in exports]
    with open_or_make_store(settings) as store:
        if not skip_existing:
            names = [name for name, _ in named]
            require_new(
                [n for i, n in enumerate(names) if n in names[:i] or store.session_exists(n)],
                settings.place,
                "--skip-existing imports the others; --as ID imports a single one as another",
            )
        _import(store, named, settings, skip_existing=skip_existing)


def _import(
    store: SessionStore,
    named: list[tuple[str, Export]],
    settings: Settings,
    *,
    skip_existing: bool,
) -> None:
    """Import each session under its name, and tell how it went."""
    imported, skipped = [], []
    for name, export in named:
        try:
            info = store.import_session(export.text, name)
        except Conflict as conflict:
            if not skip_existing or conflict.code != "session_exists":
                raise
            skipped.append(name)
            continue
        imported.append(info)
        if not settings.as_json:
            say(f"Imported {visible(name)}: {plural(info.message_count, 'message')}.")
    if settings.as_json:
        print_json({"imported": [described(info) for info in imported], "skipped": skipped})
        return
    for name in skipped:
        say(f"Skipped {visible(name)}, which is in {settings.place} already.")
    if not named:
        say("SOURCE holds no sessions.")


def _read(source: IO[bytes]) -> list[Export]:
    """Read everything, so that a damaged end is known before anything is written."""
    from holdfast.rules.importing import read_exports

    data = source.read()
    try:
        return list(read_exports(data.decode()))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidExport("it is no UTF-8 text", line=line) from error
