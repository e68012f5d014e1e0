"""From a URL, or a plain path, to a backend."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from holdfast.errors import ConfigError
from holdfast.store.backend import Backend, Durability
from holdfast.store.sources import Sources
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import Database

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def default_url() -> str:
    """Return `HOLDFAST_URL`, else the path of a file in the user's data folder."""
    return os.environ.get("HOLDFAST_URL") or str(_data_folder() / "holdfast.db")


def make_data_folder() -> None:
    """Make the folder of the default store, for its user alone."""
    folder = _data_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {folder} cannot be made: {error.strerror}",
            code="cannot_open",
            hint="set HOLDFAST_URL, or pass a path to connect()",
        ) from error


def backend_for(url: str, *, durability: Durability, timeout_s: float, sources: Sources) -> Backend:
    """Return the backend that a URL names; a scheme that is not ours is never a file's name."""
    _require_text(url)
    if durability not in ("full", "relaxed"):
        raise ConfigError(
            f"durability={durability!r} is unknown", hint='use "full" (the default) or "relaxed"'
        )
    found = _SCHEME.match(url)
    if found is None or _is_drive(found.group(1)):
        return _sqlite(url, durability, timeout_s, sources)
    scheme = found.group(1).lower()
    if scheme == "memory":
        from holdfast.store.memory import MemoryBackend  # mostly for tests

        return MemoryBackend(sources)
    if scheme == "sqlite":
        return _sqlite(_sqlite_path(url), durability, timeout_s, sources)
    if scheme in ("postgresql", "postgres"):
        return _postgres(url, durability, timeout_s, sources)
    if scheme in ("redis", "rediss"):
        raise ConfigError(
            "Redis acknowledges writes before they are on a disk, so it cannot keep our promises",
            hint="use a SQLite file: holdfast.connect('chats.db')",
        )
    raise ConfigError(
        f"{scheme!r} is not a kind of store",
        hint="use sqlite:///chats.db, a plain path, postgresql://host/database, or memory://; "
        "a file whose name holds a colon is written ./that:name",
    )


def _sqlite_path(url: str) -> str:
    """Return the path of `sqlite:///relative` or `sqlite:////absolute`."""
    if not url.lower().startswith("sqlite:///") or len(url) == len("sqlite:///"):
        raise ConfigError(
            f"{url!r} names no file", hint="write sqlite:///chats.db or sqlite:////srv/chats.db"
        )
    from urllib.parse import unquote  # slow to import, and seldom needed

    path = unquote(url[len("sqlite:///") :])
    _require_text(path)
    if "?" in path:
        raise ConfigError(f"{url!r} holds options", hint="pass options to connect() by name")
    return path


def _sqlite(text: str, durability: Durability, timeout_s: float, sources: Sources) -> Backend:
    if text == ":memory:":
        raise ConfigError("':memory:' is not a store", hint="use memory://")
    try:
        path = Path(text).expanduser().absolute()  # the program may change its folder later
    except RuntimeError as error:
        raise ConfigError(
            f"{text!r} names no user's folder: {error}", hint="write the path in full"
        ) from error
    return SqliteBackend(Database(path, durability, timeout_s), sources)


def _postgres(url: str, durability: Durability, timeout_s: float, sources: Sources) -> Backend:
    try:
        import psycopg  # noqa: F401 - whether it is there is what is asked
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs the driver psycopg, which is not installed",
            code="missing_extra",
            hint="pip install 'holdfast[postgres]'",
        ) from error
    from holdfast.store.postgres.backend import PostgresBackend
    from holdfast.store.postgres.connections import parse_address

    return PostgresBackend(parse_address(url, timeout_s), durability, sources)


def _require_text(url: object) -> None:
    try:
        usable = isinstance(url, str) and url != "" and "\0" not in url and bool(url.encode())
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise ConfigError(f"{url!r} is no store's address", hint='pass a path such as "chats.db"')


def _is_drive(scheme: str) -> bool:
    return len(scheme) == 1


def _data_folder() -> Path:
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA")
        return Path(root) / "holdfast" if root else Path.home() / "AppData/Local/holdfast"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/holdfast"
    root = os.environ.get("XDG_DATA_HOME")
    return Path(root) / "holdfast" if root else Path.home() / ".local/share/holdfast"
