"""CRC-32, the checksum of payloads: the same number whichever library counts it."""

from __future__ import annotations

try:
    # The processor's own instruction: a third of the time, and half of a long read is checking.
    from isal.isal_zlib import crc32
except ImportError:  # there is no wheel for this platform
    from zlib import crc32

__all__ = ["crc32"]
