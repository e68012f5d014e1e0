"""What the points of a session's past mean: its labels, and so many user messages back."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.errors import CorruptEntry, InvalidArgument
from holdfast.model.message import Message
from holdfast.model.session import SessionRow
from holdfast.rules import codec


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
        return codec.decode_object(session.labels.encode())
    except msgspec.MsgspecError as error:
        raise CorruptEntry(
            f"the labels of session {session.id!r} cannot be decoded: {error}",
            session_id=session.id,
        ) from error


def before_user_message(session_id: str, messages: Sequence[Message], back: int) -> int:
    """Return how many messages stand before the user message that is `back` from the end."""
    said = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if back > len(said):
        raise InvalidArgument(
            f"the history of session {session_id!r} has {len(said)} user messages, "
            f"so there is no -{back}",
            hint=f"-{len(said)} is its beginning" if said else "there is nothing to go back to",
        )
    return said[-back]
