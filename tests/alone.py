"""Tests that are marked `alone`: while one of them runs, no other process of the run has a test.

They measure time, and beside a storm of processes they would measure the storm. Two file locks see
to it: every test passes the door and enters the room, and only whoever is alone has the room to
itself. Whoever waits for that stands in the door, so the others' next tests wait, and it comes to
its turn as soon as the tests that run have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def admitted(item: pytest.Item) -> Iterator[None]:
    """Wait until a test may run; others that are not `alone` may run meanwhile, unless it is."""
    if not hasattr(item.config, "workerinput"):  # the whole run is one process
        yield
        return
    import fcntl

    assert item.config.cache is not None
    folder = item.config.cache.mkdir("alone")
    alone = item.get_closest_marker("alone") is not None
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # closing is not enough if a test has left a child
