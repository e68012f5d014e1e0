"""The number by which a session's rows are found, and may be spread over machines."""

from __future__ import annotations

import functools
from hashlib import blake2b


@functools.lru_cache(maxsize=4096)
def shard_of(tenant: str, session_id: str) -> int:
    """Return a number between -2^63 and 2^63 - 1, the same for a session everywhere and always."""
    name = tenant.encode() + b"\0" + session_id.encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)
