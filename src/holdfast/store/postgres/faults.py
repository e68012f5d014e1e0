"""PostgreSQL's errors, translated once into ours."""

from __future__ import annotations

import psycopg
from psycopg import errors

from holdfast.errors import ConfigError, HoldfastError, OutcomeUnknown, Unavailable

_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
_GOING_AWAY = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.DatabaseDropped,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,  # a standby: the address may soon lead to the new primary
)

_CUT_SHORT = (errors.LockNotAvailable, errors.QueryCanceled, errors.TransactionTimeout)


def is_connection_lost(error: BaseException) -> bool:
    """Say whether an error says nothing of the statement, but that nobody answers it."""
    if isinstance(error, _GOING_AWAY):
        return True
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # What the server says of a statement has a code; what libpq says of a connection has none.
        return getattr(error, "sqlstate", None) is None
    return False


def may_be_repeated(error: BaseException) -> bool:
    """Say whether the transaction was undone only because of others that ran beside it."""
    return isinstance(error, _AGAIN)


def is_held_up(error: BaseException) -> bool:
    """Say whether others held a lock for longer than a statement was to wait for it."""
    return isinstance(error, errors.LockNotAvailable)


def is_about_the_schema(error: BaseException) -> bool:
    """Say whether something of ours is not there, or may not be used: any other write meets it."""
    return isinstance(
        error, errors.UndefinedTable | errors.UndefinedFunction | errors.InsufficientPrivilege
    )


def translated(error: psycopg.Error, location: str) -> HoldfastError:
    """Return the error for a statement that certainly changed nothing."""
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return read_only(location)
    if isinstance(error, errors.DiskFull):
        return Unavailable(
            f"{location} has no room left",
            code="disk_full",
            hint="free some space on the server's disk, then try again",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return ConfigError(
            f"{location}: {_words(error)}", code="not_allowed", hint=_what_to_grant(_words(error))
        )
    if isinstance(error, errors.UndefinedTable | errors.UndefinedFunction):
        return ConfigError(
            f"{location} is not what this Holdfast made: {_words(error)}",
            code="damaged_schema",
            hint="holdfast doctor shows the schema's version; restore it from a backup",
        )
    if isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification):
        return ConfigError(
            f"{location} refuses this user: {_words(error)}",
            code="cannot_open",
            hint="check the user and the password in the URL, or PGUSER and PGPASSWORD",
        )
    if isinstance(error, errors.InvalidCatalogName):
        return ConfigError(
            f"{location}: {_words(error)}",
            code="cannot_open",
            hint="create the database, or name another one in the URL",
        )
    if isinstance(
        error, errors.LockNotAvailable | errors.QueryCanceled | errors.TransactionTimeout
    ):
        return Unavailable(
            f"{location}: {_words(error)}",
            code="server_timeout",
            hint="a setting of the server, the database or the role is shorter than that takes: "
            "ALTER ROLE ... SET statement_timeout = 0, or lock_timeout; calls end by themselves",
        )
    if is_connection_lost(error):
        return Unavailable(
            f"{location} cannot be reached: {_words(error)}",
            code="unreachable",
            hint="check that the server runs and may be reached from here; then try again",
        )
    return Unavailable(f"{location}: {_words(error)}", retryable=may_be_repeated(error))


def read_only(location: str) -> Unavailable:
    """Return the error for a database in which nothing can be written."""
    return Unavailable(
        f"{location} may only be read",
        code="read_only",
        hint="it may be a standby: name the primary, or all hosts and "
        "target_session_attrs=read-write",
    )


def _what_to_grant(words: str) -> str:
    if "for database" in words:
        return (
            "a role that is to make the schema needs GRANT CREATE ON DATABASE; or let another one "
            "make it: holdfast store migrate --print-sql prints what that has to run"
        )
    return (
        "holdfast store migrate --print-sql prints what the tables' owner has to run, and with "
        "--role NAME what a role needs to use them"
    )


def unknown_outcome(error: BaseException, location: str) -> OutcomeUnknown:
    """Return the error for a commit that was sent and never answered, however often asked for."""
    return OutcomeUnknown(
        f"the connection to {location} was lost while committing, and it could not be asked "
        f"what became of it: {_words(error)}",
        code="connection_lost",
    )


def _words(error: BaseException) -> str:
    diagnosis = getattr(error, "diag", None)
    return (diagnosis and diagnosis.message_primary) or " ".join(str(error).split())
