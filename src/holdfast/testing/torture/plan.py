"""What a storm is to do, as a value that travels to every process of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from holdfast.model.message import Message

KILLS_PER_SECOND = 8.0
"""The pace of the killer where the plan does not name a number of kills."""

SECRET = "my code is 4711"
REDACTED = "my code is [redacted]"
"""What every message says until the rewriter has been there, and afterwards."""

Kind: TypeAlias = Literal["plain", "edited"]
KINDS: tuple[Kind, Kind] = ("plain", "edited")
"""Both kinds of session are written and saved by all; the edited ones are rewritten as well."""

TURNS_BEGIN = "turns-"
TURNS = "abc"
"""Turns run in sessions of their own, several at a time: one waits for whoever is killed in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many processes do what, for how long, on which store.

    `folder` is for the acknowledgement logs and must be empty; it is not in the store. The storm
    lasts until `seconds` have passed, counted from when all work is under way, and `kills` were
    made. `seed` decides who is killed when; what the killed were doing at that instant is up to the
    machine. With `naive`, everybody saves whole histories without a base, which loses messages. A
    new session of each kind begins every `session_s` seconds; `pause_s` lies between loading a
    history and saving it, to be raced in. `streamers` run turns, in sessions of their own, and a
    follower is shown what they stream. `begun`, when the workers were started, and `supervisor`, a
    process id, are filled in by the storm.
    """

    url: str
    folder: str
    seed: int
    seconds: float = 10.0
    kills: int | None = None
    writers: int = 4
    savers: int = 2
    readers: int = 2
    streamers: int = 3
    naive: bool = False
    session_s: float = 1.0
    pause_s: float = 0.003
    begun: float = 0.0
    supervisor: int = 0

    @property
    def kills_wanted(self) -> int:
        """How many kills there are to be."""
        return round(self.seconds * KILLS_PER_SECOND) if self.kills is None else self.kills

    @property
    def stop_file(self) -> Path:
        """When this file is there, every worker ends after the write it is at.

        A file, since no process can be killed while it holds one, as it can with a shared event.
        """
        return Path(self.folder, "stop")

    @property
    def abort_file(self) -> Path:
        """When this file is there, the supervisor kills all its workers and ends."""
        return Path(self.folder, "abort")

    def session(self, kind: Kind) -> str:
        """Return the session of the moment: one everybody is in."""
        return f"{kind}-{self._span():03d}"

    def turns(self, number: int) -> str:
        """Return the session of the moment for a turn of that number, which all streamers share."""
        return self.turns_now()[number % len(TURNS)]

    def turns_now(self) -> list[str]:
        """Return the sessions of the moment in which turns run."""
        return [f"{TURNS_BEGIN}{self._span():03d}{which}" for which in TURNS]

    def _span(self) -> int:
        return int((time.time() - self.begun) / self.session_s) + 1

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that a text holds."""
        return cls(**json.loads(text))


def message(worker: str, number: int) -> Message:
    """Return a worker's message of that number: its first word is found nowhere else."""
    role = "user" if number % 2 else "assistant"
    return {"role": role, "content": f"{worker}-{number:06d} {SECRET}"}


def identity(content: object) -> str:
    """Return what a message is known by, whatever was redacted behind it."""
    return content.split(" ", 1)[0] if isinstance(content, str) else repr(content)
