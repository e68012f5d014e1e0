"""Looks at a SQLite store without writing to it, and says how it stands.

Whatever state the file is in becomes a finding, so that the one command that people run when
something is wrong does not itself fail.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.store.diagnosis import Finding, Limits, megabytes, surroundings
from holdfast.store.sqlite import faults, fulltext, migrations
from holdfast.store.sqlite.connections import (
    APPLICATION_ID,
    ConnectionFactory,
    Database,
)
from holdfast.store.sqlite.holders import Holder, lock_holders
from holdfast.store.sqlite.queries import queries
from holdfast.store.sqlite.turnstile import LOCK_SUFFIXES
from holdfast.store.sqlite.writer import ERASURE

_TIMEOUT_S = 1.0
_LISTED = 5
_MAX_DAMAGE = 3
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_CODES = {
    "not_ours": "schema",
    "locked": "contents",
    "cannot_open": "access",
    "read_only": "access",
    "not_durable": "durability",
}
_OTHER_CODE = "integrity"


def onlooker(path: str) -> sqlite3.Connection:
    """Open a connection that leaves the files as they are.

    With a write-ahead log beside the database it is read-only, for closing a writable one would
    fold the log into the file. Without one it is writable, for a read-only one would leave files
    behind that belong to whoever looked.
    """
    beside = any(Path(path + suffix).exists() for suffix in ("-wal", "-journal"))
    uri = f"{Path(path).as_uri()}?mode={'ro' if beside else 'rw'}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def diagnose(
    path: Path,
    source: str,
    *,
    limits: Limits | None = None,
    system: Path = Path("/proc"),
    factory: ConnectionFactory = onlooker,
    pause: Callable[[float], None] = time.sleep,
) -> list[Finding]:
    """Return what was found, the store's address first.

    `source` says where the address comes from. `system` is where Linux tells of mounts and locks.
    """
    limits = limits or Limits()
    absent = _absent(path)
    if absent is not None:
        return [_store(path, source), absent, *surroundings(path, limits, system)]
    database = Database(path, "full", _TIMEOUT_S, factory)
    holders = lock_holders(path, system)
    access = _access(path)
    inside = list(_inside(database, holders))
    return [
        _store(path, source),
        access,
        *surroundings(path, limits, system),
        # Who may not write the file cannot look into it either: that is one finding.
        *(finding for finding in inside if access.level == "ok" or finding.code != "access"),
        _log_size(path, limits, holders),
        _locks(database, holders, limits, system, pause),
    ]


def _store(path: Path, source: str) -> Finding:
    return Finding("store", "ok", f"{path}, from {source}")


def _absent(path: Path) -> Finding | None:
    """Return a finding if there is no file that could be looked into."""
    another = "name another one with --store or HOLDFAST_URL"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not path.parent.is_dir():
            return Finding("file", "problem", f"there is no folder {path.parent}", another)
        hint = f"{another}; a program makes it when it connects"
        return Finding("file", "problem", "there is no such file", hint)
    except OSError as error:
        what = f"the file cannot be reached: {error.strerror}"
        return Finding("file", "problem", what, "check who may enter its folder")
    if path.is_dir():
        return Finding("file", "problem", "that is a folder, not a file", another)
    if not found.st_size:
        hint = f"{another}; a program makes a store of it when it connects"
        return Finding("file", "problem", "the file is empty: there is no store in it yet", hint)
    return None


def _access(path: Path) -> Finding:
    """Say whether this user may write the file, what stands beside it, and its folder."""
    if not os.access(path, os.R_OK):
        what = f"this user (uid {_user()}) may not read the file"
        return Finding("access", "problem", what, "run this as the file's owner, or grant access")
    beside = [Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", *LOCK_SUFFIXES)]
    needed = [path, path.parent, *(file for file in beside if file.exists())]
    closed = [str(file) for file in needed if not os.access(file, os.W_OK)]
    if closed:
        what = f"this user (uid {_user()}) may not write {', '.join(closed)}"
        hint = "make the file, its folder and the files beside it writable for who uses the store"
        return Finding("access", "problem", what, hint)
    return Finding("access", "ok", "this user may read and write the file")


def _user() -> int | str:
    return os.geteuid() if hasattr(os, "geteuid") else "?"


def _inside(database: Database, holders: list[Holder] | None) -> Iterator[Finding]:
    """Yield what the database says of itself; stop where it cannot be read."""
    try:
        with closing(database.writer()) as connection:
            schema = _schema(connection, database.location)
            yield schema
            if schema.level == "ok":
                yield _durability(connection)
                yield _erasure(connection, holders)
                yield _search(connection)
            yield _integrity(connection)
    except sqlite3.Error as error:
        yield _failed(faults.translated(error, database.location))
    except HoldfastError as error:
        yield _failed(error)


def _failed(error: HoldfastError) -> Finding:
    return Finding(_CODES.get(error.code, _OTHER_CODE), "problem", error.message, error.hint)


def _schema(connection: sqlite3.Connection, location: str) -> Finding:
    ours = _number(connection, "PRAGMA application_id") == APPLICATION_ID
    version, known = _number(connection, "PRAGMA user_version"), migrations.newest()
    if not ours:
        hint = "name another file with --store or HOLDFAST_URL; this one was left as it is"
        what = f"{location} is another program's database"
        return Finding("schema", "problem", what, hint)
    if version < 1:
        what = f"the file is ours, but its schema version {version} never was"
        return Finding("schema", "problem", what, "restore the file from a backup")
    if version > known:
        what = f"schema version {version} is newer than this Holdfast, which knows {known}"
        return Finding("schema", "problem", what, "upgrade Holdfast: pip install -U holdfast")
    if version < known:
        what = f"schema version {version} is older than this Holdfast's {known}"
        hint = "holdfast store migrate brings it up to date; so does a program that connects"
        return Finding("schema", "warning", what, hint)
    return Finding("schema", "ok", f"schema version {version}, as this Holdfast has it")


def _durability(connection: sqlite3.Connection) -> Finding:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    given = f"synchronous={_SYNCHRONOUS[_number(connection, 'PRAGMA synchronous')]}"
    if mode == "wal":
        what = f"write-ahead log with {given}: what is acknowledged survives a power failure"
        return Finding("durability", "ok", what)
    what = (
        f"a rollback journal ({mode}) with {given}: durable, but slower, and readers and writers "
        "wait for each other"
    )
    hint = (
        "the next program that connects switches to a write-ahead log if the file system can; "
        "if this stays, move the store to a disk of this machine"
    )
    return Finding("durability", "warning", what, hint)


def _erasure(connection: sqlite3.Connection, holders: list[Holder] | None) -> Finding:
    row = connection.execute(queries()["store_value"], (ERASURE,)).fetchone()
    if row is None:
        return Finding("erasure", "ok", "nothing that was deleted or purged is left in the files")
    since = datetime.fromtimestamp(int(row[0]) / 1000, UTC)
    what = f"deleted or purged {since:%Y-%m-%d %H:%M} UTC, and bytes of it are still in the files"
    hint = f"{_let_go(holders)}; the next write then erases them"
    return Finding("erasure", "warning", what, hint)


def _search(connection: sqlite3.Connection) -> Finding:
    if not fulltext.has_fts5(connection):
        what = "this Python's SQLite has no FTS5, so a search reads every message"
        return Finding("search", "warning", what, "use a Python whose SQLite was built with FTS5")
    indexed = _number(connection, queries()["count_indexed"])
    what = f"the index has {indexed:,} messages; whoever searches adds what it lacks"
    return Finding("search", "ok", what)


def _integrity(connection: sqlite3.Connection) -> Finding:
    found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MAX_DAMAGE})")]
    if found == ["ok"]:
        what = "SQLite's quick check finds no damage; holdfast store verify checks every entry"
        return Finding("integrity", "ok", what)
    what = f"the file is damaged: {'; '.join(' '.join(line.split()) for line in found)}"
    hint = "copy the file, then holdfast store verify shows what is hit; restore it from a backup"
    return Finding("integrity", "problem", what, hint)


def _log_size(path: Path, limits: Limits, holders: list[Holder] | None) -> Finding:
    try:
        taken = Path(f"{path}-wal").stat().st_size
    except OSError:
        return Finding("wal", "ok", "there is no write-ahead log: everything is in the file")
    if taken > limits.wal_bytes:
        what = f"the write-ahead log has grown to {megabytes(taken)}, which slows every read"
        return Finding(
            "wal", "warning", what, f"{_let_go(holders)}; it shrinks when all have closed"
        )
    return Finding("wal", "ok", f"the write-ahead log has {megabytes(taken)}")


def _let_go(holders: list[Holder] | None) -> str:
    reading = [holder for holder in holders or () if holder.reads]
    if reading:
        return f"a reader holds it: end or restart {_named(reading)}"
    return "end or restart the programs that have read for long"


def _locks(
    database: Database,
    holders: list[Holder] | None,
    limits: Limits,
    system: Path,
    pause: Callable[[float], None],
) -> Finding:
    if holders is None:
        what = "this system does not tell who holds file locks"
        return Finding("locks", "ok", what, f"lsof {database.path} shows who has the file open")
    stuck = [holder for holder in holders if holder.writes]
    if stuck:
        # Twice the same writer says little of a busy store: that nobody committed meanwhile does.
        before = _Commits(database)
        pause(limits.held_s)
        later = lock_holders(database.path, system) or []
        if before.went_on():
            stuck = []
        stuck = [holder for holder in stuck if holder in later]
    if stuck:
        what = f"{_named(stuck)} has held the write lock for {limits.held_s:g} s without a commit"
        hint = "others cannot write until it is done: let it finish, or end it; nothing is lost"
        return Finding("locks", "warning", what, hint)
    if not holders:
        return Finding("locks", "ok", "nobody has the store open")
    groups = [(doing, [h for h in holders if h.doing == doing]) for doing in _activities(holders)]
    what = "; ".join(f"{doing}: {_named(found)}" for doing, found in groups)
    return Finding("locks", "ok", what)


def _activities(holders: list[Holder]) -> list[str]:
    return list(dict.fromkeys(holder.doing for holder in holders))


class _Commits:
    """Whether anybody commits: SQLite counts the commits of other connections."""

    def __init__(self, database: Database) -> None:
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = database.reader()
        except sqlite3.Error:
            return
        self._seen = self._version()

    def went_on(self) -> bool:
        """Say whether there was a commit since this was made."""
        if self._connection is None:
            return False
        with closing(self._connection):
            return self._version() != self._seen

    def _version(self) -> int:
        assert self._connection is not None
        try:
            return _number(self._connection, "PRAGMA data_version")
        except sqlite3.Error:
            return -1  # locked against readers: nobody gets on


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _named(holders: list[Holder]) -> str:
    names = ", ".join(str(holder) for holder in holders[:_LISTED])
    return f"{names} and {len(holders) - _LISTED} more" if len(holders) > _LISTED else names
