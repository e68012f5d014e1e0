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

from holdfast.cli.escaping import visible
from holdfast.cli.options import global_options, open_store, settings_of
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
@click.argument("source", metavar="SOURCE", type=click.File("rb"))
@click.option("--as", "new_id", metavar="ID", help="Under another id, if SOURCE holds one session.")
@click.option("--skip-existing", is_flag=True, help="Leave sessions alone that are there already.")
@global_options
@click.pass_context
def import_command(
    context: click.Context, source: IO[bytes], new_id: str | None, *, skip_existing: bool
) -> None:
    """Make sessions of exported text.

    SOURCE is a file, or - for stdin, and is checked to its end first. Sessions that are there
    already are an error, and then nothing is imported, unless --skip-existing is given. Each
    session is imported whole or not at all.

    Example: holdfast import user-42.jsonl --as user-43
    """
    settings = settings_of(context)
    exports = _read(source)
    if new_id is not None and len(exports) != 1:
        held = plural(len(exports), "session")
        raise click.UsageError(f"--as takes one session, and SOURCE holds {held}", context)
    imported, skipped = [], []
    with open_store(settings) as store:
        named = [(new_id or export.session_id, export) for export in exports]
        if not skip_existing:
            _require_new(store, [name for name, _ in named], settings.place)
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


def _require_new(store: SessionStore, names: list[str], place: str) -> None:
    """Refuse sessions that are there already, or stand in the source twice."""
    there = [
        name for n, name in enumerate(names) if name in names[:n] or store.session_exists(name)
    ]
    if there:
        listed = ", ".join(map(repr, there))
        raise Conflict(
            f"nothing was imported: in {place} there is already {listed}",
            code="session_exists",
            hint="--skip-existing imports the others; --as ID imports a single one as another",
        )
