"""What the machine itself can do, measured in the same run: the limits that figures refer to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from benchmarks.conversations import encoded, turns


class Raw:
    """Appends turns to a file and syncs it after each: the disk's own rate, for one caller."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._turns = map(encoded, turns())
        self.written = 0
        self.seconds = 0.0
        self.longest_ms = 0.0

    @property
    def rate(self) -> float:
        """Turns a second, over everything that was measured so far."""
        return self.written / self.seconds

    def warm_up(self, count: int) -> None:
        """Write turns that do not count."""
        self._append(list(islice(self._turns, count)))

    def measure(self, count: int) -> None:
        """Write turns that count."""
        data = list(islice(self._turns, count))
        started = time.perf_counter()
        longest = self._append(data)
        self.seconds += time.perf_counter() - started
        self.written += count
        self.longest_ms = max(self.longest_ms, longest * 1e3)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, data: Sequence[bytes]) -> float:
        longest = 0.0
        before = time.perf_counter()
        for item in data:
            os.write(self._file, item)
            os.fdatasync(self._file)
            after = time.perf_counter()
            longest = max(longest, after - before)
            before = after
        return longest


class RawRows:
    """Inserts turns on one connection, a row and a commit each: a server's own rate."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS raw ("
            "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, turn text NOT NULL)"
        )
        self._turns = (encoded(turn).decode() for turn in turns())
        self.seconds = 0.0
        self.written = 0

    @property
    def rate(self) -> float:
        """Turns a second, over everything that was measured since the last `reset`."""
        return self.written / self.seconds

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds, self.written = 0.0, 0

    def measure(self, count: int) -> None:
        """Write turns that count."""
        work = list(islice(self._turns, count))
        started = time.perf_counter()
        for turn in work:
            self._connection.execute("INSERT INTO raw (turn) VALUES (%s)", (turn,))
        self.seconds += time.perf_counter() - started
        self.written += count

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


_whole = msgspec.json.Decoder(dict[str, Any])


class BareDecoding:
    """Decodes entries' payloads that are in memory already, one by one and with every key."""

    def __init__(self, lines: Sequence[bytes], per_entry: int) -> None:
        starts = range(0, len(lines), per_entry)
        self._payloads = [b"\n".join(lines[start : start + per_entry]) for start in starts]
        self._single = per_entry == 1

    def seconds(self) -> float:
        """Return how long that takes."""
        decode, decode_lines = _whole.decode, _whole.decode_lines
        started = time.perf_counter()
        if self._single:
            found = [decode(payload) for payload in self._payloads]
        else:
            found = [message for payload in self._payloads for message in decode_lines(payload)]
        took = time.perf_counter() - started
        assert found
        return took


def interpreter_s(statement: str, compiled: Path) -> float:
    """Return the seconds that a Python process takes which only executes `statement`.

    Modules are compiled into `compiled` the first time, as they are when a package is installed.
    """
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return time.perf_counter() - started
