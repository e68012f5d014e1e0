"""What the points of a session's past mean: its labels, its turns, and so many back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from holdfast.errors import CorruptEntry, InvalidArgument
from holdfast.model.entry import LogRow
from holdfast.model.message import Message
from holdfast.model.session import SessionRow
from holdfast.rules import codec
from holdfast.rules.belonging import asked, turn_facts


def labelled(label: str, session: SessionRow) -> int:
    """Return the revision that a label names."""
    labels = labels_of(session)
    if label in labels:
        return labels[label]
    known = ", ".join(map(repr, sorted(labels)))
    raise InvalidArgument(
        f"session {session.id!r} has no label {label!r}",
        code="unknown_label",
        hint=f"its labels are {known}" if known else "it has none",
    )


def labels_of(session: SessionRow) -> dict[str, int]:
    """Return a session's labels and the revisions that they name."""
    try:
        return codec.decode_object(session.labels)
    except msgspec.MsgspecError as error:
        raise CorruptEntry(
            f"the labels of session {session.id!r} cannot be decoded: {error}",
            session_id=session.id,
        ) from error


def turn_end(turn: str, session: SessionRow, rows: Sequence[LogRow]) -> int | None:
    """Return the revision of the entry that closed a turn; `None` if it is open still."""
    if not rows:
        raise InvalidArgument(
            f"session {session.id!r} has no turn {turn!r}",
            code="unknown_turn",
            hint="read_entries shows its turns",
        )
    return None if session.open_turn == turn else rows[-1].revision


def before_step(
    session_id: str, messages: Sequence[Message], turns: Sequence[LogRow], back: int
) -> int:
    """Return how many messages stand before the step that is `back` from the end.

    A step is a turn, which begins with its prompt; before the first turn that has its prompt here,
    a user message. `turns` are the session's turn entries.
    """
    said = [message.get("id") for message in messages]
    begins = {_begin(said, asked(facts)) for facts in _by_turn(turns).values()} - {None}
    prompts = sorted(index for index in begins if index is not None)
    outside = messages[: prompts[0]] if prompts else messages
    users = [index for index, message in enumerate(outside) if message["role"] == "user"]
    steps = [*users, *prompts]
    if back > len(steps):
        counted = f"{len(users)} user messages"
        if prompts:
            counted = f"{len(prompts)} turns and {counted} before them"
        raise InvalidArgument(
            f"the history of session {session_id!r} has {counted}, so there is no -{back}",
            hint=f"-{len(steps)} is its beginning" if steps else "there is nothing to go back to",
        )
    return steps[-back]


def _by_turn(rows: Sequence[LogRow]) -> dict[str | None, list[dict[str, Any]]]:
    found: dict[str | None, list[dict[str, Any]]] = {}
    for row, facts in zip(rows, turn_facts(rows), strict=True):
        found.setdefault(row.turn, []).append(facts)
    return found


def _begin(said: Sequence[object], prompt: Collection[str]) -> int | None:
    return next((index for index, id_ in enumerate(said) if id_ in prompt), None)
