"""From what the single files hold to whole sessions, and to the logs that they become here.

A session may be spread: its file, a row of `sessions.db`, copies that PraisonAI put aside as
damaged, messages that it could not save. They are put together oldest first, and what several
places hold is there once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from holdfast.errors import InvalidArgument
from holdfast.integrations.praisonai import details, files
from holdfast.integrations.praisonai.messages import milliseconds
from holdfast.integrations.praisonai.values import CompactionCheckpoint
from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.message import Message
from holdfast.model.session import new_session
from holdfast.model.write import Restored
from holdfast.rules import codec
from holdfast.rules.arguments import check_id
from holdfast.rules.exporting import export, time_text
from holdfast.rules.restoring import replayed

_BRIEF = 80
_LEFT_OUT = ("snapshots", "snapshot_storage", "spilled_at", "updated_at")
_OWN_PLACE = ("created_at", "metadata", "title", "agent_name", "user_id", details.CHECKPOINT)


class Kind(StrEnum):
    """Where something of a session was found."""

    QUARANTINED = "quarantined"
    FILE = "file"
    ROW = "row"
    SPILL = "spill"


class Find(Struct, frozen=True):
    """What one place holds of a session; `name` is the file's, for people."""

    name: str
    kind: Kind
    saved: files.Saved


class Whole(Struct, frozen=True):
    """A session put together: everything that was said, and what PraisonAI shows of it."""

    session_id: str
    facts: dict[str, Any]
    raw: list[Message]
    shown: list[Message]

    @property
    def digest(self) -> str:
        """What was said, as a number that other texts do not have."""
        return digest(self.raw)


def gather(finds: Sequence[Find]) -> list[Whole]:
    """Return the sessions that are spread over these places, in the order in which they came."""
    of_session: dict[str, list[Find]] = {}
    for find in with_ids(finds):
        of_session.setdefault(find.saved.session_id, []).append(find)
    return [_whole(session_id, found) for session_id, found in of_session.items()]


def with_ids(finds: Sequence[Find]) -> list[Find]:
    """Return the finds with the ids that their files' names stand for, where these were lost."""
    stems: dict[str, set[str]] = {}
    for find in finds:
        if find.saved.id_known:
            name = find.saved.session_id
            stems.setdefault(files.file_stem(name), set()).add(name)
    return [find if find.saved.id_known else _named(find, stems) for find in finds]


def shared_ids(finds: Iterable[Find]) -> list[str]:
    """Return the ids that stood in the way of another one: PraisonAI gave them one file."""
    stems: dict[str, dict[str, None]] = {}
    for find in finds:
        name = find.saved.session_id
        stems.setdefault(files.file_stem(name), {})[name] = None
    return [name for names in stems.values() if len(names) > 1 for name in names]


def as_export(whole: Whole) -> str:
    """Return a session as an export of ours, which `import_session` restores in one commit.

    Where PraisonAI had put a summary in the place of older messages, the log has a generation with
    everything that was said, and then one with what PraisonAI showed.
    """
    created = milliseconds(whole.facts.get("created_at"))
    first = next((_time(one) for one in whole.raw if _time(one) is not None), None)
    log = _Log(created if created is not None else first or 0)
    lines = _lines(whole)
    shown = lines(whole.shown)
    log.add(codec.new_entry(EntryKind.META, [_described(whole)]), 0)
    if any(map(files.is_summary, whole.shown)):
        log.add_messages(lines(whole.raw))
        log.compact(len(whole.raw), len(codec.chunked(shown)))
    log.add_messages(shown)
    rows = tuple(log.rows)
    restored = Restored(log.created, len(rows), 0, rows)
    return export(
        replayed(new_session(0, "", stored_id(whole), log.created), restored, rows), rows, {}
    )


def stored_id(whole: Whole) -> str:
    """Return the id under which a session can be stored: its own, unless it is far too long."""
    try:
        return check_id(whole.session_id)
    except InvalidArgument:
        return hashlib.sha256(whole.session_id.encode()).hexdigest()


def brief(session_id: str) -> str:
    """Return an id for people, who need not read thousands of characters of it."""
    return session_id if len(session_id) <= _BRIEF else f"{session_id[:_BRIEF]}…"


def marker(raw: Sequence[Message]) -> dict[str, Any]:
    """Return what is kept of an import, so that the next one knows what is new."""
    return {"messages": len(raw), "digest": digest(raw)}


def digest(raw: Iterable[Message]) -> str:
    """Return a number that only what was said has."""
    return hashlib.sha256("\n".join(map(files.said, raw)).encode()).hexdigest()


class _Log:
    """The rows of a log under construction; revisions count from 1."""

    def __init__(self, created: int) -> None:
        self.created = self._at = created
        self.rows: list[LogRow] = []
        self._ordinal = 0

    def add(self, entry: NewEntry, ordinal: int) -> None:
        """Add an entry."""
        self.rows.append(
            LogRow(
                len(self.rows) + 1,
                entry.kind.value,
                ordinal,
                None,
                0,
                self._at,
                entry.payload,
                entry.checksum,
            )
        )

    def add_messages(self, lines: list[bytes]) -> None:
        """Add messages, each entry as late as its last message."""
        for entry in codec.chunked(lines):
            times = map(_time, codec.decode_whole([entry.payload]))
            self._at = max([self._at, *(at for at in times if at is not None)])
            self.add(entry, self._ordinal)
            self._ordinal += entry.count

    def compact(self, closed: int, following: int) -> None:
        """Begin the generation that begins with a summary."""
        detail = {"reason": "compact", "base": None, "closed": closed}
        self._ordinal = 0
        last = len(self.rows) + 1 + following
        self.add(codec.new_entry(EntryKind.RESET, [codec.encode(detail)]), last)


def _whole(session_id: str, finds: list[Find]) -> Whole:
    order = list(Kind)
    finds = sorted(finds, key=lambda find: (order.index(find.kind), _changed(find)))
    facts: dict[str, Any] = {}
    for find in finds:
        facts |= {key: value for key, value in find.saved.facts.items() if value is not None}
    raw: list[Message] = []
    kept = [find.saved for find in finds if find.kind is not Kind.SPILL]
    for one in reversed(kept):  # the latest knows best what it goes on from
        raw = files.joined(one.raw, raw)
    summarised = kept and any(map(files.is_summary, kept[-1].messages))
    shown = kept[-1].messages if summarised else raw
    spilled = [one for find in finds if find.kind is Kind.SPILL for one in find.saved.raw]
    lost = files.unsaved(raw, spilled)
    return Whole(session_id, facts, [*raw, *lost], [*shown, *lost])


def _changed(find: Find) -> tuple[int, str]:
    return milliseconds(find.saved.facts.get("updated_at")) or 0, find.name


def _named(find: Find, stems: dict[str, set[str]]) -> Find:
    stem = find.saved.session_id
    names = stems.get(stem, set())
    name = next(iter(names)) if len(names) == 1 else stem
    lost = find.saved
    return Find(
        find.name,
        find.kind,
        files.Saved(name, lost.messages, lost.archived, lost.facts, id_known=False),
    )


def _lines(whole: Whole) -> Callable[[list[Message]], list[bytes]]:
    """Return what makes JSON lines of messages; one that stands in both generations is the same."""
    numbers = {id(one): n for n, one in enumerate([*whole.raw, *whole.shown])}
    at = time_text(milliseconds(whole.facts.get("created_at")) or 0)

    def line(message: Message) -> bytes:
        seed = f"{whole.session_id}\0{numbers[id(message)]}\0{files.said(message)}"
        name = f"msg_{hashlib.sha256(seed.encode()).hexdigest()[:16]}"
        return codec.encode_message(message, "", (lambda: name, at))

    return lambda messages: [line(message) for message in messages]


def _described(whole: Whole) -> bytes:
    facts = whole.facts
    given = facts.get("metadata")
    metadata = dict(given) if isinstance(given, dict) else {}
    left = {
        key: value
        for key, value in facts.items()
        if value not in (None, [], {}) and key not in _LEFT_OUT and key not in _OWN_PLACE
    }
    metadata = details.foreign(left | metadata)
    changes: dict[str, Any] = {}
    title = metadata.pop("title", None) or facts.get("title")
    if title:
        # A title that no session can have stays in the metadata.
        told = str(title)
        place = metadata if "\0" in told else changes
        place["title"] = told
    for name in ("agent_name", "user_id"):
        try:
            if facts.get(name) is not None:
                changes[name] = check_id(facts[name], name)
        except InvalidArgument:
            metadata.setdefault(name, str(facts[name]))
    checkpoint = facts.get(details.CHECKPOINT)
    if checkpoint is not None and not details.is_checkpoint(checkpoint):
        metadata[details.UNUSABLE_CHECKPOINT] = checkpoint
    elif checkpoint is not None:
        metadata[details.CHECKPOINT] = _checkpoint(checkpoint, whole)
    if stored_id(whole) != whole.session_id:
        metadata["praisonai_session_id"] = whole.session_id
    metadata[details.IMPORTED] = marker(whole.raw)
    return codec.encode(codec.encodable({**changes, "metadata": metadata}, ""))


def _checkpoint(found: Mapping[str, Any], whole: Whole) -> dict[str, Any]:
    # The lines are made anew here: only they have the ids.
    messages = codec.decode_whole(_lines(whole)(whole.shown))
    return details.checkpoint_at(CompactionCheckpoint.from_dict(found), messages)


def _time(message: Message) -> int | None:
    return milliseconds(message.get("created_at"))
