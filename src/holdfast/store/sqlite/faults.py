"""SQLite's errors, translated once into ours."""

from __future__ import annotations

import sqlite3

from holdfast.errors import ConfigError, HoldfastError, OutcomeUnknown, Unavailable


def translated(error: sqlite3.Error, location: str) -> HoldfastError:
    """Return the error for a statement that failed before COMMIT: nothing was written."""
    code = _primary_code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            f"another program holds {location}",
            code="locked",
            hint="holdfast doctor shows which; try again when it is done",
        )
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(
            f"there is no room to write {location}",
            code="disk_full",
            hint="free some space on the disk, then try again",
        )
    if code == sqlite3.SQLITE_READONLY:
        return Unavailable(
            f"{location} may only be read",
            retryable=False,
            code="read_only",
            hint="make the file and its folder writable for this user",
        )
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigError(
            f"{location} is no SQLite database",
            code="not_ours",
            hint="choose another path; the file was left as it is",
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return ConfigError(
            f"{location} cannot be opened",
            code="cannot_open",
            hint="check that it is a file, and that this user may read and write it and its folder",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR):
        return Unavailable(
            f"{location} cannot be read or written: {error}",
            retryable=False,
            code="damaged" if code == sqlite3.SQLITE_CORRUPT else "io_error",
            hint="holdfast doctor shows what SQLite finds; restore the file from a backup",
        )
    return Unavailable(f"{location}: {error}", retryable=False)


def unknown_outcome(error: sqlite3.Error, location: str) -> OutcomeUnknown:
    """Return the error for a COMMIT that failed: what it wrote may be on the disk all the same."""
    cause = translated(error, location)
    return OutcomeUnknown(
        f"committing to {location} failed, and whether it was written is unknown: {error}",
        hint=f"{cause.hint}; repeat the call with the same key=, then it happens once",
        code="disk_full" if cause.code == "disk_full" else "io_error",
    )


def is_about_the_disk(error: sqlite3.Error) -> bool:
    """Say whether an error would meet any other write as well."""
    return _primary_code(error) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
    )


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether another connection holds what was asked for."""
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _primary_code(error: sqlite3.Error) -> int:
    # Extended codes carry the primary one in their low byte; errors of the module itself have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
