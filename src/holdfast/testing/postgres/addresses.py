"""Addresses that lead through a proxy."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit


class Addressed(Protocol):
    """What has an address: a server."""

    @property
    def url(self) -> str:
        """The address."""
        ...


def address_through(server: Addressed | str, port: int) -> str:
    """Return the address of a server or a database, with a proxy's port in place of its own."""
    parts = urlsplit(server if isinstance(server, str) else server.url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()
