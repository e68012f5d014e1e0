"""Connections to one PostgreSQL database: how they are made, lent and bounded."""

from __future__ import annotations

import logging
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode
from weakref import WeakSet

import psycopg
from msgspec import Struct
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from holdfast.errors import ConfigError, Unavailable
from holdfast.store.postgres import faults
from holdfast.store.postgres.arrays import learn_arrays
from holdfast.store.postgres.outages import Outage

T = TypeVar("T")
IDLE = psycopg.pq.TransactionStatus.IDLE
NO_PIPELINE = psycopg.pq.PipelineStatus.OFF

CONNECTIONS = 4
"""How many connections a process has at most, unless its URL says otherwise."""

LEAST_CONNECTIONS = 3
"""One writes, one listens, one reads."""

FRESH_S = 0.5
"""How long a connection that was used is believed to be alive."""

LOOK_S = 0.1
"""How often whoever waits for a connection looks whether one was lost, which nobody tells."""

# Of a connection that breaks psycopg also writes a line to stderr, where nobody set up logging.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_SAYS_WHERE = re.compile(r"connection to server (?:at|on socket) .*? failed: (?:FATAL: )?")
"""What libpq begins with, after we have said where the store is."""

_SPECIAL = frozenset("\"'\\%$")
"""What means something within quotes, in a statement's text or in that of a function."""

_MOST_NAME_BYTES = 63
"""PostgreSQL cuts a longer name short, without a word."""

LEAST_CONNECT_S, MOST_CONNECT_S = 2, 10
"""How long opening a connection may take: half of a call's time, within these bounds."""

_DEFAULTS = {
    "application_name": "holdfast",
    # A peer that is gone without a word is noticed within half a minute, idle or not.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}


class Address(Struct, frozen=True):
    """Where a store is: what libpq is told, and which schema of the database is ours."""

    conninfo: str
    schema: str
    connections: int
    location: str
    timeout_s: float


def parse_address(url: str, timeout_s: float) -> Address:
    """Return what a `postgresql://` URL says; `schema` and `connections` in it are for us."""
    place, _, query = url.partition("?")
    _, slashes, rest = place.partition("://")
    if not slashes:
        raise ConfigError(
            "the URL names no server",
            hint="write postgresql://user@host:port/database",
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    schema = options.pop("schema", "holdfast")
    limit = options.pop("connections", str(CONNECTIONS))
    _require_schema(schema)
    if not limit.isdecimal() or int(limit) < LEAST_CONNECTIONS:
        raise ConfigError(
            f"connections={limit!r} must be a number from {LEAST_CONNECTIONS} on",
            hint=f"without it a process has at most {CONNECTIONS}",
        )
    for_libpq = f"postgresql://{rest}?{urlencode(options, quote_via=quote)}"
    try:
        known = conninfo_to_dict(for_libpq)
    except psycopg.ProgrammingError as error:
        said = " ".join(str(error).split())
        if secret := _password(rest):
            said = said.replace(secret, "***")
        raise ConfigError(
            f"{_without_password(url)!r} is no PostgreSQL URL: {said}",
            hint="write postgresql://user@host:port/database",
        ) from None
    wanted: dict[str, Any] = {**_DEFAULTS, **known, "client_encoding": "UTF8"}
    wanted.setdefault(
        "connect_timeout", max(LEAST_CONNECT_S, min(MOST_CONNECT_S, int(timeout_s / 2)))
    )
    if "," in str(known.get("host", "")):
        wanted.setdefault("target_session_attrs", "read-write")
    location = _without_password(url)
    return Address(make_conninfo("", **wanted), schema, int(limit), location, timeout_s)


def _require_schema(name: str) -> None:
    """Refuse what PostgreSQL keeps for itself, and what could end a quoted name."""
    hint = "use letters, digits, - and _"
    if name.startswith("pg_") or name == "information_schema":
        why = "is PostgreSQL's own: it takes all names that begin with pg_, and information_schema"
    elif len(name.encode(errors="replace")) > _MOST_NAME_BYTES:
        why = f"is too long: a schema's name has at most {_MOST_NAME_BYTES} bytes"
    elif not name or not name.isprintable() or _SPECIAL.intersection(name):
        why = "cannot be a schema's name"
        hint += "; not a quote, a backslash, % or $, nor what cannot be printed"
    else:
        return
    raise ConfigError(f"schema={name!r} {why}", hint=hint)


def _password(rest: str) -> str:
    """Return the password as it stands in a URL behind its `://`, or nothing."""
    return rest.partition("/")[0].rpartition("@")[0].partition(":")[2]


def _without_password(url: str) -> str:
    place, _, query = url.partition("?")
    scheme, _, rest = place.partition("://")
    authority, slash, database = rest.partition("/")
    user, at, host = authority.rpartition("@")
    name, colon, _ = user.partition(":")
    options = [(k, "***" if k == "password" else v) for k, v in parse_qsl(query)]
    shown = f"?{urlencode(options, safe='/*')}" if options else ""
    return f"{scheme}://{name}{':***' if colon else ''}{at}{host}{slash}{database}{shown}"


class Connection(psycopg.Connection[TupleRow]):
    """A connection on which no call waits longer than `patience_s`."""

    patience_s: float | None = None
    used_at = 0.0
    asked = False
    prepared: set[bytes] | None = None
    """The statements that it has prepared; none where sessions are lent by the transaction."""

    def __del__(self, _: Any = None, /) -> None:
        """Close what Ctrl-C made somebody lose."""
        with suppress(AttributeError):  # one that was never opened
            self.close()

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server as psycopg does, and close the connection when it takes too long."""
        patience_s = self.patience_s if timeout is None else timeout
        started = time.monotonic()
        try:
            return super().wait(gen, interval, patience_s)
        except psycopg.OperationalError as error:
            if timeout is None and patience_s and time.monotonic() - started >= patience_s:
                self.close()
                raise psycopg.OperationalError(f"no answer within {patience_s:g} s") from error
            raise
        except Exception:
            raise
        except BaseException:
            # Ctrl-C between question and answer: whoever asked next would get that answer.
            with suppress(psycopg.Error):
                gen.close()
            self.close()
            raise

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Share round trips as psycopg does; Ctrl-C is not hidden behind what it left undone."""
        try:
            with super().pipeline() as pipeline:
                yield pipeline
        except psycopg.Error as error:
            if (interrupt := _interrupt_behind(error)) is None:
                raise
            self.close()
            raise interrupt from None


def _interrupt_behind(error: BaseException | None) -> BaseException | None:
    while isinstance(error, Exception):
        error = error.__context__
    return error


def connect(address: Address) -> Connection:
    """Open a connection, or raise what keeps it from being opened."""
    try:
        connection = Connection.connect(address.conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise _refused(error, address) from error
    connection.patience_s = address.timeout_s
    learn_arrays(connection)
    return connection


def _refused(error: psycopg.Error, address: Address) -> ConfigError | Unavailable:
    """Tell what a server refuses from a server that does not answer: neither comes with a code."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    said = "; ".join(filter(None, lines)).removeprefix("connection failed: ")
    if len(_SAYS_WHERE.findall(said)) == 1:  # of several hosts each says which it is
        said = _SAYS_WHERE.sub("", said)
    if re.search(r"authentication failed|no password supplied|no pg_hba.conf entry", said):
        return ConfigError(
            f"{address.location} refuses this user: {said}",
            code="cannot_open",
            hint="check the user and the password in the URL, or PGUSER and PGPASSWORD",
        )
    if re.search(r'(database|role) ".*" does not exist', said):
        return ConfigError(
            f"{address.location}: {said}",
            code="cannot_open",
            hint="create it, or name another one in the URL",
        )
    return Unavailable(
        f"{address.location} cannot be reached: {said}",
        code="unreachable",
        hint="check that the server runs and may be reached from here; then try again",
    )


class Connections:
    """Lends connections, at most so many at a time, and keeps them for the next who asks.

    One of them is kept for the writer: reads that take long do not keep a write waiting. Ctrl-C may
    come between any two steps here, so nothing is counted: what was lent is known by its loan, and
    a loan that was lost is gone.
    """

    def __init__(self, address: Address, outage: Outage) -> None:
        self.address = address
        self.outage = outage
        self._start_fresh()

    def _start_fresh(self) -> None:
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._idle: list[Connection] = []
        self._loans: WeakSet[_Loan] = WeakSet()
        self._paused = False

    @contextmanager
    def lend(self, *, to_write: bool = False) -> Iterator[Connection]:
        """Lend a connection; one whose use failed is closed rather than lent again.

        Raises `Unavailable` if none is free in time. Errors of psycopg come through untranslated.
        """
        loan = _Loan(to_write=to_write)
        usable = False
        try:
            connection = self._take(loan)
            yield connection
            usable = _is_at_rest(connection)
        finally:
            self._give_back(loan, usable=usable)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def pause(self, timeout_s: float) -> None:
        """Lend no more, wait for those that are lent, and close every connection."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._paused = True
            while self._loans and time.monotonic() < deadline:
                self._change.wait(LOOK_S)
        self.close()

    def resume(self) -> None:
        """Lend again."""
        with self._lock:
            self._paused = False
            self._change.notify_all()

    def abandon(self) -> list[Connection]:
        """Start anew, and return the connections that were open, unclosed."""
        lent = [loan.connection for loan in self._loans]
        open_ones = [*self._idle, *(connection for connection in lent if connection is not None)]
        self._start_fresh()
        return open_ones

    def _take(self, loan: _Loan) -> Connection:
        deadline = time.monotonic() + self.address.timeout_s
        with self._lock:
            while not self._may_lend(loan):
                if (left_s := deadline - time.monotonic()) <= 0:
                    raise Unavailable(
                        f"all {self.address.connections} connections to {self.address.location} "
                        "are in use",
                        code="connections",
                        hint="read less at a time, or allow more with connections= in the URL",
                    )
                self._change.wait(min(left_s, LOOK_S))
            self._loans.add(loan)
            while self._idle:
                loan.connection = self._idle.pop()
                if _is_alive(loan.connection):
                    return loan.connection
        connection = loan.connection = connect(self.address)
        self.outage.end()
        return connection

    def _may_lend(self, loan: _Loan) -> bool:
        if self._paused:
            return False
        reading = sum(not other.to_write for other in self._loans)
        if not loan.to_write and reading >= self.address.connections - 1:
            return False
        return bool(self._idle) or len(self._loans) < self.address.connections

    def _give_back(self, loan: _Loan, *, usable: bool) -> None:
        connection = loan.connection
        with self._lock:
            if loan not in self._loans:
                return  # it was never lent, or by the parent of this process
            if usable and not self._paused:
                assert connection is not None, "what was not lent is not usable"
                connection.used_at = time.monotonic()
                self._idle.append(connection)
            elif connection is not None:
                with suppress(psycopg.Error):
                    connection.close()
            self._loans.discard(loan)
            self._change.notify_all()


class _Loan:
    """A connection that somebody has, or is being given."""

    def __init__(self, *, to_write: bool) -> None:
        self.to_write = to_write
        self.connection: Connection | None = None


def _is_alive(connection: Connection) -> bool:
    """Say whether nothing is known of the server having closed an idle connection.

    One that was used just now is not asked: that takes its time, and whoever uses it learns it.
    """
    if time.monotonic() - connection.used_at < FRESH_S:
        return not connection.closed
    try:
        readable, _, _ = select.select([connection.fileno()], [], [], 0)
        if readable:
            connection.pgconn.consume_input()
    except (psycopg.Error, OSError, ValueError):
        connection.close()
    return _is_at_rest(connection)


def _is_at_rest(connection: Connection) -> bool:
    """Say whether a connection is open, and in the midst of nothing.

    A pipeline that Ctrl-C left open is something: in it libpq says IDLE, and what is executed is
    answered before it is committed.
    """
    pgconn = connection.pgconn
    at_rest = pgconn.transaction_status == IDLE and pgconn.pipeline_status == NO_PIPELINE
    return at_rest and not connection.closed


def never_close(connection: Connection) -> None:
    """Leave a connection of the parent's alone: closing it would end the parent's."""
    import ctypes  # needed in forked children only

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


@contextmanager
def translating(address: Address) -> Iterator[None]:
    """Let no error of psycopg through; what was being done certainly changed nothing."""
    try:
        yield
    except psycopg.Error as error:
        raise faults.translated(error, address.location) from error
