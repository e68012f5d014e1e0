"""Opening a SQLite file: whose it is, what durability it really gives, which schema it has."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from holdfast.errors import ConfigError, NotSupported
from holdfast.store.backend import Durability, SchemaState
from holdfast.store.sources import Sources
from holdfast.store.sqlite import faults, migrations
from holdfast.store.sqlite.queries import queries

APPLICATION_ID = 0x484F4C44
"""`HOLD`, in the file's header: how we know our own files."""

BUSY_TIMEOUT_MS = 100
READER_CACHE_KB = 8 * 1024
"""A history of 10,000 messages fits, and need not be fetched anew while nobody writes."""

_SYNCHRONOUS = {"NORMAL": 1, "FULL": 2, "EXTRA": 3}

ConnectionFactory: TypeAlias = Callable[[str], sqlite3.Connection]


def plain_connection(path: str) -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time, with transactions our own."""
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=64
    )


class Database(Struct, frozen=True):
    """A SQLite file and how to open it."""

    path: Path
    durability: Durability
    timeout_s: float
    factory: ConnectionFactory = plain_connection

    @property
    def location(self) -> str:
        """The file, for people."""
        return str(self.path)

    def reader(self) -> sqlite3.Connection:
        """Return a connection that cannot write."""
        connection = self._connect()
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def writer(self) -> sqlite3.Connection:
        """Return a connection whose COMMIT is as durable as was asked for, read back."""
        connection = self._connect()
        try:
            connection.execute("PRAGMA secure_delete = FAST")
            self._make_durable(connection)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        except BaseException:
            connection.close()
            raise
        return connection

    def prepare(self, sources: Sources, *, migrate: bool) -> str:
        """Check the file, or make it if there is none; return the identity of its data.

        An older schema is brought up to date, or refused without `migrate`.
        """
        self._require_folder()
        connection = self._connect()
        try:
            if _value(connection, "PRAGMA application_id") != APPLICATION_ID:
                # By this look SQLite undid what a power failure had left of a new file. Its layout
                # it read before that, from bytes that may have been torn: so it looks again.
                connection.close()
                connection = self._connect()
                self._create(connection, sources)
            self._require_known_schema(connection)
            found = migrations.state(connection)
            if found.prepared < migrations.newest() and not migrate:
                raise self._old_schema(found.version)
            if found.version < migrations.newest() and migrate:
                self._migrate(connection, before_only=False)
            self._require_wal(connection)
            self._make_durable(connection)
            return str(_value(connection, queries()["store_value"], "identity"))
        finally:
            connection.close()

    def migrate(self, *, before_only: bool) -> tuple[SchemaState, SchemaState]:
        """Bring an older schema up to date, or only prepare that; return its old and new state."""
        connection = self._connect()
        try:
            if _value(connection, "PRAGMA application_id") != APPLICATION_ID:
                raise self._not_ours()
            self._require_known_schema(connection)
            found = migrations.state(connection)
            wanted = found.prepared if before_only else found.version
            if wanted < migrations.newest():
                self._migrate(connection, before_only=before_only)
            return found, migrations.state(connection)
        finally:
            connection.close()

    def _migrate(self, connection: sqlite3.Connection, *, before_only: bool) -> None:
        self._until_deadline(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            migrations.migrate(connection, before_only=before_only)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _old_schema(self, version: int) -> NotSupported:
        return NotSupported(
            f"{self.location} has schema version {version}; "
            f"this Holdfast works with version {migrations.newest()}",
            code="old_schema",
            hint=f"bring it up to date: holdfast store migrate --store {self.location}",
        )

    def _not_ours(self) -> ConfigError:
        return ConfigError(
            f"{self.location} is another program's database",
            code="not_ours",
            hint="choose another path; the file was left as it is",
        )

    def _require_folder(self) -> None:
        folder = self.path.parent
        try:
            there = folder.is_dir()
        except OSError as error:
            raise ConfigError(
                f"the folder {folder} cannot be looked into: {error.strerror}",
                code="cannot_open",
                hint="choose another path, or change the permissions",
            ) from error
        if not there:
            raise ConfigError(
                f"there is no folder {folder}",
                code="cannot_open",
                hint="create it, or choose another path",
            )

    def _connect(self) -> sqlite3.Connection:
        connection = self.factory(str(self.path))
        try:
            # First of all: the other pragmas may have to wait for a lock.
            connection.execute(f"PRAGMA busy_timeout = {int(self.timeout_s * 1000)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection, sources: Sources) -> None:
        """Make the schema in an empty file; refuse a file that is somebody else's."""
        self._until_deadline(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            if _value(connection, "PRAGMA application_id") == APPLICATION_ID:
                return  # another process made it while we waited
            tables = _value(connection, "SELECT count(*) FROM sqlite_master")
            version = _value(connection, "PRAGMA user_version")
            if tables or version or _value(connection, "PRAGMA application_id"):
                raise self._not_ours()
            migrations.create(connection)
            connection.execute(queries()["put_store_value"], ("identity", sources.new_id()))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _require_known_schema(self, connection: sqlite3.Connection) -> None:
        version = _value(connection, "PRAGMA user_version")
        if not isinstance(version, int) or version < 1:
            raise ConfigError(
                f"{self.location} is ours, but its schema version {version!r} never was",
                code="damaged_schema",
                hint="restore the file from a backup",
            )
        if version > migrations.newest():
            raise NotSupported(
                f"{self.location} has schema version {version}; "
                f"this Holdfast knows versions up to {migrations.newest()}",
                code="newer_schema",
                hint="upgrade Holdfast: pip install --upgrade holdfast",
            )

    def _require_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to a write-ahead log; where that cannot be had, a journal does."""
        if _value(connection, "PRAGMA journal_mode") == "wal":
            return
        mode = self._until_deadline(lambda: _value(connection, "PRAGMA journal_mode = WAL"))
        if mode != "wal":
            _value(connection, "PRAGMA journal_mode = DELETE")

    def _make_durable(self, connection: sqlite3.Connection) -> None:
        """Set what COMMIT waits for, and read back what SQLite made of it."""
        wal = _value(connection, "PRAGMA journal_mode") == "wal"
        # FULL does not sync a rollback journal's deletion, so a transaction could come back.
        strict = "FULL" if wal else "EXTRA"
        level = strict if self.durability == "full" else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {level}")
        if _value(connection, "PRAGMA synchronous") != _SYNCHRONOUS[level]:
            raise ConfigError(
                f"SQLite does not give synchronous={level} on {self.location}",
                code="not_durable",
                hint='use another file system, or ask for durability="relaxed"',
            )

    def _until_deadline(self, attempt: Callable[[], object]) -> object:
        # SQLite does not wait for some locks at all, whatever its busy timeout.
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                if not faults.is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)


def _value(connection: sqlite3.Connection, statement: str, *parameters: object) -> object:
    row = connection.execute(statement, parameters).fetchone()
    return row[0] if row else None
