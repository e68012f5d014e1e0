"""PraisonAI's folders and databases, read without a trace, and brought into a store.

Files are opened for reading; a database is copied first, since even a reader of one in WAL mode
writes beside it.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from holdfast.errors import Conflict, InvalidArgument, InvalidMessage
from holdfast.integrations.praisonai import details, files
from holdfast.integrations.praisonai.gathering import (
    Find,
    Kind,
    Whole,
    as_export,
    brief,
    gather,
    marker,
    shared_ids,
    stored_id,
    with_ids,
)
from holdfast.store.sync_store import SessionStore

SQLITE = b"SQLite format 3\0"
_SPILL = Path("state", "session_spill")

Outcome: TypeAlias = Literal["imported", "extended", "unchanged", "changed", "foreign"]


class Note(Struct, frozen=True):
    """A file that was looked at, and what is to be told of it."""

    file: str
    told: str
    kind: str = ""
    sessions: tuple[str, ...] = ()
    messages: int = 0


class Failure(Struct, frozen=True):
    """What did not come over, where it stands, and why; without a session: the whole place."""

    files: tuple[str, ...]
    reason: str
    session: str | None = None


_Looked: TypeAlias = tuple[list[Find], Note, list[Failure]]
"""What one file holds, what is told of it, and which of its rows did not come over."""


class Source(Struct, frozen=True):
    """Everything that a folder or a database holds of PraisonAI's sessions."""

    finds: list[Find]
    notes: list[Note]
    failures: list[Failure]

    @property
    def sessions(self) -> list[Whole]:
        """The sessions, put together."""
        return gather(self.finds)

    def rescued(self, ids: Collection[str]) -> Rescued:
        """Return what PraisonAI itself no longer shows of these sessions, or showed mixed up."""
        damaged = [f for f in self.finds if f.kind is Kind.QUARANTINED]
        return Rescued(
            sum(find.saved.session_id in ids for find in damaged),
            [name for name in shared_ids(self.finds) if name in ids],
        )


class Rescued(Struct, frozen=True):
    """How many damaged files something was recovered from, and the ids that had shared a file."""

    quarantined: int
    shared: list[str]


def recognise(path: Path) -> bool:
    """Say whether a path can only be PraisonAI's: a folder, a database, or one session's file."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        begin = file.read(len(SQLITE))
    if begin == SQLITE:
        return True
    if not begin.lstrip().startswith(b"{") or path.suffix != ".json":
        return False
    try:
        return files.is_session(files.decode(path.read_bytes()))
    except InvalidMessage:
        return True  # whole, and no export of ours: that is a line of JSON for each entry
    except ValueError:
        return False


def read(path: Path) -> Source:
    """Return what a folder, a database or a file holds; `InvalidArgument` if no session.

    What cannot be read is one of the failures, and keeps nothing else back.
    """
    finds: list[Find] = []
    notes: list[Note] = []
    failures: list[Failure] = []
    for file, name in _places(path):
        try:
            found, note, failed = _rows(file, name) if _is_database(file) else _file(file, name)
        except (InvalidMessage, OSError, sqlite3.Error) as error:
            failures.append(Failure((name,), str(error)))
            continue
        finds += found
        notes.append(note)
        failures += failed
    if not finds and not failures:
        raise InvalidArgument(
            f"{path} holds no sessions of PraisonAI",
            hint="name its home (~/.praisonai), its folder sessions, or its sessions.db",
        )
    return Source(with_ids(finds), notes, failures)


def bring_all(store: SessionStore, source: Source) -> tuple[dict[str, Outcome], list[Failure]]:
    """Bring each session that can be stored, and say which could not, and why."""
    outcomes: dict[str, Outcome] = {}
    failures = list(source.failures)
    for whole in source.sessions:
        name = whole.session_id
        try:
            outcomes[name] = bring(store, whole)
        except InvalidArgument as error:
            places = {find.name: None for find in source.finds if find.saved.session_id == name}
            failures.append(Failure(tuple(places), error.message, name))
    return outcomes, failures


def bring(store: SessionStore, whole: Whole) -> Outcome:
    """Create a session in one commit; add what is new to one that was imported before.

    However often it is called, and wherever it was cut off: nothing is there twice.
    """
    text = as_export(whole)
    try:
        store.import_session(text)
    except Conflict as conflict:
        if conflict.code != "session_exists":
            raise
        return _extend(store, stored_id(whole), whole)
    return "imported"


def _extend(store: SessionStore, name: str, whole: Whole) -> Outcome:
    imported = store.get_session(name).metadata.get(details.IMPORTED)
    if not isinstance(imported, dict):
        return "foreign"
    if imported == marker(whole.raw):
        return "unchanged"
    count = imported["messages"]
    if imported != marker(whole.raw[:count]):
        return "changed"
    store.add_messages(name, whole.raw[count:], key=f"praisonai import {whole.digest}")
    store.update_session_metadata(name, **{details.IMPORTED: marker(whole.raw)})
    return "extended"


def _places(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files to look at, and what they are called."""
    if not path.is_dir():
        yield path, path.name
        return
    sessions = path / "sessions"
    folders = [sessions if sessions.is_dir() else path]
    home = path if sessions.is_dir() else path.parent
    if path.name == "sessions" or sessions.is_dir():
        folders.append(home / _SPILL)
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.endswith((".lock", "-wal", "-shm", "-journal")):
                yield file, str(file.relative_to(home if home in file.parents else folder))


def _is_database(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(SQLITE)) == SQLITE


def _file(file: Path, name: str) -> _Looked:
    stem, _, rest = file.name.partition(".json")
    if not _ or not (rest == "" or rest.startswith(".corrupt-")):
        return [], Note(name, "left alone: no session's file"), []
    data = file.read_bytes()
    try:
        value = files.decode(data)
    except InvalidMessage:
        raise
    except ValueError:
        return _recovered(files.salvaged(data, otherwise=stem), name)
    if not files.has_messages(value):
        return [], Note(name, "left alone: no session of PraisonAI"), []
    kind = Kind.SPILL if files.is_spill(value) else Kind.QUARANTINED if rest else Kind.FILE
    found = files.saved(value, otherwise=stem)
    if kind is Kind.QUARANTINED:
        return _recovered(found, name)
    what = "could not be saved: " if kind is Kind.SPILL else ""
    return [Find(name, kind, found)], _note(name, kind, found, what), []


def _recovered(found: files.Saved | None, name: str) -> _Looked:
    if found is None:
        return [], Note(name, "damaged, and holds no whole message"), []
    note = _note(name, Kind.QUARANTINED, found, "damaged, recovered: ")
    return [Find(name, Kind.QUARANTINED, found)], note, []


def _note(name: str, kind: Kind, found: files.Saved, before: str) -> Note:
    count = len(found.raw)
    told = f"{before}{brief(found.session_id)}, {count:,} message{'' if count == 1 else 's'}"
    if found.encrypted:
        told += "; they are encrypted, and stay so"
    return Note(name, told, kind.value, (found.session_id,), count)


def _rows(file: Path, name: str) -> _Looked:
    """Return the sessions in a database's table."""
    with _copied(file) as copy, contextlib.closing(sqlite3.connect(copy)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(sessions)")}
        if not {"session_id", "data"} <= columns:
            return [], Note(name, "left alone: no table of PraisonAI's sessions"), []
        connection.text_factory = bytes  # SQLite's text need not be UTF-8
        rows = connection.execute("SELECT session_id, data FROM sessions ORDER BY rowid").fetchall()
    finds, failures = list[Find](), list[Failure]()
    for number, (row_id, data) in enumerate(rows, 1):
        try:
            found = _row(_bytes(row_id).decode("utf-8", "replace"), _bytes(data))
        except InvalidMessage as error:
            failures.append(Failure((name,), f"row {number}: {error.message}"))
            continue
        if found is not None:
            finds.append(Find(name, Kind.ROW, found))
    count = sum(len(find.saved.raw) for find in finds)
    told = f"{len(finds):,} session{'' if len(finds) == 1 else 's'}, {count:,} messages"
    empty = len(rows) - len(finds) - len(failures)
    if empty:
        told += f"; {empty:,} row{' holds' if empty == 1 else 's hold'} no message"
    names = tuple(find.saved.session_id for find in finds)
    return finds, Note(name, told, Kind.ROW.value, names, count), failures


def _row(row_id: str, data: bytes) -> files.Saved | None:
    """Return the session that a row holds; `None` if none."""
    try:
        value = files.decode(data)
    except InvalidMessage:
        raise
    except ValueError:
        found = files.salvaged(data, otherwise=row_id)
    else:
        found = files.saved(value, otherwise=row_id) if files.has_messages(value) else None
    if found is not None and not found.session_id:
        raise InvalidMessage("the session has no id")
    return found


def _bytes(value: object) -> bytes:
    """Return a column's value; a number as it is written."""
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


@contextlib.contextmanager
def _copied(file: Path) -> Iterator[Path]:
    """Lend a copy of a database, with what its write-ahead log holds."""
    with tempfile.TemporaryDirectory(prefix="holdfast-import-") as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            part = Path(f"{file}{suffix}")
            if part.exists():
                shutil.copyfile(part, f"{copy}{suffix}")
        yield copy
