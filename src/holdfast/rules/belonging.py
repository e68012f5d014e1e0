"""Which messages belong to a turn, wherever a rewrite has put them.

An entry knows its turn, but a rewrite stores messages anew, without. Their ids stay what they were:
so the entry that begins an attempt records the ids of the prompt that it added, and what a turn
said is found again by the ids in its own entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.message import Message
from holdfast.model.session import SessionRow
from holdfast.model.usage import TurnStatus
from holdfast.rules import codec
from holdfast.rules.decision import Log


def turn_facts(rows: Iterable[LogRow]) -> list[dict[str, Any]]:
    """Return what these rows say of their turns."""
    return [codec.decode_object(row.payload) for row in rows if row.kind == EntryKind.TURN]


def attempts(facts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a turn's entries say of how its attempts began."""
    return [each for each in facts if each["status"] == TurnStatus.RUNNING]


def asked(facts: Iterable[dict[str, Any]]) -> frozenset[str]:
    """Return the ids of a turn's prompt, in whichever attempt it was added."""
    return frozenset(id_ for each in facts for id_ in each.get("asked", ()))


def own_rows(session: SessionRow, turn: str, after: int, log: Log) -> list[LogRow]:
    """Return what the log records of a turn above a revision."""
    return [row for row in log.entries_after(session, after) if row.turn == turn]


def said_since(session: SessionRow, turn: str, after: int, log: Log) -> list[LogRow]:
    """Return what the log records of a turn above a revision, but not what was carried over."""
    commits = [(row.revision, row.ordinal) for row in log.resets_after(session, after)]
    return [
        row
        for row in own_rows(session, turn, after, log)
        if row.kind != EntryKind.MESSAGE
        or not any(reset < row.revision <= last for reset, last in commits)
    ]


def messages_of(rows: Sequence[LogRow]) -> list[Message]:
    """Return the messages that these rows hold, whole."""
    payloads = [row.payload for row in rows if row.kind == EntryKind.MESSAGE]
    return codec.decode_whole(payloads) if payloads else []


def carried(session: SessionRow, entries: Sequence[NewEntry], log: Log) -> list[LogRow]:
    """Return what the open turn has in the current history and a new one does not hold yet.

    The turn goes on, and an answer needs its prompt.
    """
    turn = session.open_turn
    if turn is None:
        return []
    facts = log.turn_rows(session, turn)
    rows = own_rows(session, turn, facts[0].revision, log) if facts else []
    said = [row.payload for row in rows if row.kind == EntryKind.MESSAGE]
    mine = {*asked(turn_facts(facts)), *_names(said)}
    given = set(_names(entry.payload for entry in entries))
    found: list[LogRow] = []
    for row in log.messages_after(session, session.base):
        lines = codec.split_lines([row.payload])
        kept = [
            line
            for line, name in zip(lines, _names([row.payload]), strict=True)
            if name not in given and (row.turn == turn or name in mine)
        ]
        if kept:
            new = codec.new_entry(EntryKind.MESSAGE, kept)
            found.append(row._replace(turn=turn, payload=new.payload, checksum=new.checksum))
    return found


def up_to_prompt(ids: Sequence[str], own: Sequence[LogRow]) -> int | None:
    """Return where in a history, given by its messages' ids, a turn's prompt ends.

    `own` are the turn's rows. A turn without a prompt answered what stood before its own messages.
    `None` if the prompt is not there.
    """
    prompt = asked(turn_facts(own))
    if prompt:
        ends = [index + 1 for index, id_ in enumerate(ids) if id_ in prompt]
        return ends[-1] if ends else None
    said = set(codec.message_ids(row.payload for row in own if row.kind == EntryKind.MESSAGE))
    return next((index for index, id_ in enumerate(ids) if id_ in said), len(ids))


def _names(payloads: Iterable[bytes]) -> list[str | bytes]:
    """Return what tells messages apart: their ids, or all of one that has no text for an id."""
    held = list(payloads)
    names = zip(codec.message_ids(held), codec.split_lines(held), strict=True)
    return [id_ or line for id_, line in names]
