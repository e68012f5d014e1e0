"""The store that `holdfast demo` works on: a file, a server of its own, or a schema for a while."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.testing.torture import Crashes

CRASH_EVERY_S = 2.5
DROP_TIMEOUT_S = 30.0


class DemoStore(Struct, frozen=True):
    """Where the demo writes, and what that is in words; `stays` says whether it is left to look at.

    `crashes` kills the store's server now and then, if it is the demo's own.
    """

    url: str
    words: str
    stays: bool
    crashes: Crashes | None = None


@contextmanager
def demo_store(folder: Path, postgres: str | None) -> Iterator[DemoStore]:
    """Make the store: in a file without `postgres`, on a server of its own if that is empty."""
    if postgres is None:
        yield DemoStore(str(folder / "demo.db"), "in one SQLite file", stays=True)
    elif postgres:
        with _scratch_schema(postgres) as url:
            yield DemoStore(url, "in a schema of that PostgreSQL server", stays=False)
    else:
        yield from _own_server(folder)


def _own_server(folder: Path) -> Iterator[DemoStore]:
    try:
        from holdfast.testing.postgres import Server
    except ImportError as error:
        raise ConfigError(
            f"a PostgreSQL server of the demo's own needs packages that are missing: {error}",
            code="missing_extra",
            hint="pip install 'holdfast[postgres,testing]', or name a server: --postgres URL",
        ) from error
    from holdfast.testing.torture import Crashes

    with Server.start(folder / "server") as server:
        words = "in one PostgreSQL server, which is killed as well"
        yield DemoStore(server.url, words, stays=False, crashes=Crashes(server, CRASH_EVERY_S))


@contextmanager
def _scratch_schema(url: str) -> Iterator[str]:
    """Yield a URL of a schema on somebody's server that is there for the demo alone."""
    if not url.lower().startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"--postgres {url!r} is no PostgreSQL URL",
            hint="write --postgres postgresql://user@host/database, or --postgres alone",
        )
    if "schema=" in url:
        raise ConfigError("the demo makes a schema of its own", hint="leave schema= out of the URL")
    name = f"holdfast_demo_{secrets.token_hex(4)}"
    ours = f"{url}{'&' if '?' in url else '?'}schema={name}"
    try:
        yield ours
    finally:
        _drop_schema(ours)


def _drop_schema(url: str) -> None:
    from holdfast.store.postgres.connections import connect, parse_address, translating
    from holdfast.store.postgres.queries import identifier

    address = parse_address(url, DROP_TIMEOUT_S)
    with translating(address), connect(address) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {identifier(address.schema)} CASCADE")
