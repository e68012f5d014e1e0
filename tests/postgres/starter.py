"""A worker that connects when it is told to; its words are ROLE URL (see `tests.forking`).

As `new` it knows one version of the schema more than this code does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import holdfast
from holdfast.store.postgres import migrations
from holdfast.store.schemas import Step

BEFORE = """
CREATE TABLE holdfast.labels (shard bigint PRIMARY KEY, tenant text NOT NULL);
SELECT pg_sleep(0.3);
"""
AFTER = "ALTER TABLE holdfast.waiters RENAME TO tickets;"


def know_more() -> None:
    """Let this process know another version, whose scripts fail if they are run twice."""
    known = migrations.steps()
    steps = (*known, Step(known[-1].version + 1, BEFORE, AFTER))
    migrations.steps = lambda: steps


def say(word: str) -> None:
    """Tell the parent how far this has come."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main(words: Sequence[str]) -> None:
    """Connect at the word, and add a message."""
    role, url = words
    if role == "new":
        know_more()
    say("ready")
    sys.stdin.readline()
    with holdfast.connect(url) as store:
        store.add_user_message("all", "here")
    say("done")
