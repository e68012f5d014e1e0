"""What is said in a storm's turns: every piece of it can be told from every other one.

A turn has a prompt and then so many answers, each of one model call. A piece names its worker, the
worker's number for the turn, the attempt and the answer; so what was shown can be looked for, and
what each call used is known to whoever reads it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from holdfast.model.usage import Usage

ANSWERS = 2
PIECES = 10
MODEL = "storm"
_NAME = re.compile(r"(\w+)-(\d{6})/(\d+)\.(\d+) ")


class Said(NamedTuple):
    """Which answer this is: of which worker's turn, in which attempt, the how manieth."""

    worker: str
    number: int
    attempt: int
    answer: int


def prompt(worker: str, number: int) -> str:
    """Return a turn's prompt: its first word is found nowhere else."""
    return f"{worker}-{number:06d} please"


def key(worker: str, number: int) -> str:
    """Return a turn's key."""
    return f"{worker}-{number}"


def pieces(said: Said) -> list[str]:
    """Return an answer as it is streamed; joined, it is the message."""
    name = f"{said.worker}-{said.number:06d}/{said.attempt}.{said.answer} "
    return [name] + [f"{piece:02d} and " for piece in range(1, PIECES)] + ["done."]


def text(said: Said) -> str:
    """Return a whole answer."""
    return "".join(pieces(said))


def said_by(content: object) -> Said | None:
    """Return which answer a text is, or begins."""
    found = _NAME.match(content) if isinstance(content, str) else None
    if found is None:
        return None
    return Said(found[1], int(found[2]), int(found[3]), int(found[4]))


def usage(said: Said) -> Usage:
    """Return what the model call of an answer used."""
    return Usage(
        call=f"{said.attempt}.{said.answer}",
        model=MODEL,
        input_tokens=100 + said.number,
        output_tokens=10 * said.attempt + said.answer,
        cached_tokens=said.answer,
    )
