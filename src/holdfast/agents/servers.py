"""Which server a model is asked at, for errors of clients that do not say it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit


def note_server(error: Exception, url: str | None) -> None:
    """Add to an error where the model was asked, and which variable says so, if one does."""
    if not url:
        return
    url = url.rstrip("/")  # which clients add
    named = [
        name
        for name, value in os.environ.items()
        if name.endswith("_BASE_URL") and value.rstrip("/") == url
    ]
    source = f" (from {', '.join(sorted(named))})" if named else ""
    error.add_note(f"this asked the server at {without_password(url)}{source}")


def without_password(url: str) -> str:
    """Return an address as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
