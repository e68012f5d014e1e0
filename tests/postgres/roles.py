"""Roles with different rights on one database, and what a store made by hand is."""

from __future__ import annotations

import psycopg

from holdfast.store.postgres.by_hand import by_hand
from holdfast.store.postgres.connections import parse_address
from holdfast.store.sources import Sources


def with_user(url: str, user: str) -> str:
    """The same address for another role."""
    return url.replace("//postgres@", f"//{user}@")


def in_schema(url: str, schema: str) -> str:
    """The same database, in a schema of its own."""
    return f"{url}?schema={schema}"


def run(url: str, *scripts: str) -> None:
    """Run scripts of several statements."""
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        for script in scripts:
            connection.execute(script.encode())


def printed(url: str, *, before_only: bool = False, role: str | None = None) -> str:
    """What `holdfast store migrate --print-sql` prints."""
    address = parse_address(url, 30)
    return by_hand(address, Sources(), before_only=before_only, role=role).sql
