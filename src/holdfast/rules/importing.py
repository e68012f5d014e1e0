"""From the text of an export back to the log that it was made of; nothing is taken on trust.

Whatever cannot be restored as it was is an `InvalidExport`, which names the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from holdfast.errors import InvalidArgument, InvalidExport
from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.message import Message
from holdfast.model.session import REVISION_BITS, SessionRow, new_session
from holdfast.model.usage import TurnStatus
from holdfast.model.write import KeyRow, Restored, WriteKind
from holdfast.rules import codec
from holdfast.rules.arguments import (
    MAX_NUMBER,
    check_count,
    check_id,
    check_optional_id,
    check_stored_label,
    check_title,
)
from holdfast.rules.exporting import EPOCH, FORMAT, VERSION
from holdfast.rules.restoring import replayed
from holdfast.rules.verification import SessionCheck

T = TypeVar("T")
_KEYED = (WriteKind.ADD, WriteKind.SAVE, WriteKind.TURN)
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]


class Export(Struct, frozen=True):
    """One session of a text: its id there, its log, and the text's lines that it takes."""

    session_id: str
    restored: Restored
    text: str


class _Format(Struct):
    format: str
    version: int


class _Key(Struct):
    kind: str
    revision: int
    kept: Count = 0
    turn: str | None = None


class _Facts(Struct):
    id: str
    title: str | None
    user_id: str | None
    agent_name: str | None
    created_at: str
    message_count: int
    revision: int
    floor: int
    labels: dict[str, int]
    metadata: dict[str, Any]
    keys: dict[str, _Key] = field(default_factory=dict)


class _Header(Struct):
    session: _Facts


class _Counts(Struct):
    entries: int
    messages: int


class _Line(Struct):
    """An entry, or the closing line."""

    end: _Counts | None = None
    revision: int = 0
    kind: str = ""
    at: str = ""
    turn: str | None = None
    attempt: int = 0
    last: int = 0
    messages: list[Message] = field(default_factory=list)
    payload: dict[str, Any] | None = None


class _ResetPayload(Struct):
    reason: str
    base: int | None
    closed: int


class _MetaPayload(Struct):
    title: str | None = None
    user_id: str | None = None
    agent_name: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)


class _TurnPayload(Struct):
    turn: str
    attempt: int
    status: TurnStatus
    prompt: int | None = None
    asked: list[str] = field(default_factory=list)
    worker: str | None = None
    reason: str | None = None
    error: str | None = None
    key: str | None = None


class _DeltaPayload(Struct):
    call: Count
    offset: Count
    text: str


class _UsagePayload(Struct):
    call: str
    model: str | None = None
    input_tokens: Count = 0
    output_tokens: Count = 0
    cached_tokens: Count = 0
    unknown: bool = False


def read_export(text: str) -> Export:
    """Return the one session that a text holds."""
    exports = Lines(text)
    found = exports.next_session()
    if found is None:
        raise InvalidExport("the text is empty", line=1)
    if exports.skip_blank():
        raise InvalidExport(
            "something follows the session's closing line",
            line=exports.number,
            hint="import the sessions of a text one by one, as holdfast import does",
        )
    return found


def read_exports(text: str) -> Iterator[Export]:
    """Yield each session of a text in which exports follow each other."""
    exports = Lines(text)
    while (found := exports.next_session()) is not None:
        yield found


class Lines:
    """Walks over the lines of a text; `number` is that of the line at hand, from 1."""

    def __init__(self, text: str) -> None:
        # By newlines alone: str.splitlines() also splits at what may stand in a JSON string.
        self._lines = text.split("\n")
        self.number = 1

    def skip_blank(self) -> bool:
        """Go to the next line that holds something, and say whether there is one."""
        while self.number <= len(self._lines) and not self._lines[self.number - 1].strip():
            self.number += 1
        return self.number <= len(self._lines)

    def next_session(self) -> Export | None:
        """Return the next session, checked; `None` if there is none any more."""
        if not self.skip_blank():
            return None
        first = self.number
        facts = self._header()
        log = _Log(facts, first)
        while True:
            self.number = end = self.number + 1
            if not self.skip_blank():
                raise InvalidExport(
                    "the text ends before the session's closing line: it was cut", line=end
                )
            line = self._decoded(_Line)
            if line.end is not None:
                self._compare_counts(log, line.end)
                break
            try:
                log.add(line, self.number)
            except InvalidArgument as error:
                raise self._invalid(error.message) from error
        self.number += 1
        text = "\n".join(self._lines[first - 1 : self.number - 1]) + "\n"
        return Export(facts.id, log.checked(), text)

    def _header(self) -> _Facts:
        form = self._decoded(_Format, "this is no export's header")
        if form.format != FORMAT:
            raise self._invalid(f"this is an export of another kind: {form.format!r}")
        if form.version > VERSION:
            raise InvalidExport(
                f"the export has format version {form.version}; this Holdfast knows {VERSION}",
                line=self.number,
                code="newer_export",
                hint="upgrade Holdfast: pip install --upgrade holdfast",
            )
        facts = self._decoded(_Header).session
        try:
            check_id(facts.id, "id")
        except InvalidArgument as error:
            raise self._invalid(error.message) from error
        return facts

    def _decoded(self, kind: type[T], otherwise: str = "") -> T:
        try:
            return msgspec.json.decode(self._lines[self.number - 1].encode(), type=kind)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
            raise self._invalid(f"{otherwise or 'it cannot be read'}: {error}") from error

    def _compare_counts(self, log: _Log, counts: _Counts) -> None:
        found = _Counts(len(log.rows), log.messages)
        if found != counts:
            raise self._invalid(
                f"{counts.entries} entries and {counts.messages} messages were exported, "
                f"{found.entries} and {found.messages} are here"
            )

    def _invalid(self, what: str) -> InvalidExport:
        return InvalidExport(what, line=self.number)


class _Log:
    """The rows of one export, and the line on which each stands."""

    def __init__(self, facts: _Facts, header_line: int) -> None:
        self.rows: list[LogRow] = []
        self.messages = 0
        self._facts = facts
        self._header_line = header_line
        self._line_of: dict[int | None, int] = {None: header_line}
        self._in_generation = 0

    def add(self, line: _Line, number: int) -> None:
        """Add an entry; `InvalidArgument` if there can be no such one."""
        if not 0 < line.revision <= self._facts.revision < 1 << REVISION_BITS:
            raise InvalidArgument(f"revision {line.revision} is not one of this session")
        entry = self._entry(line)
        ordinal = 0
        if entry.kind is EntryKind.MESSAGE:
            ordinal = self._in_generation
            self._in_generation += entry.count
            self.messages += entry.count
        elif entry.kind is EntryKind.RESET:
            ordinal = line.last
            self._in_generation = 0
        at = milliseconds(line.at, "at")
        self.rows.append(
            LogRow(
                line.revision,
                entry.kind.value,
                ordinal,
                line.turn,
                line.attempt,
                at,
                entry.payload,
                entry.checksum,
            )
        )
        self._line_of[line.revision] = number

    def checked(self) -> Restored:
        """Return the log, once it has been found to be what the header says and sound in itself."""
        facts = self._facts
        try:
            created = milliseconds(facts.created_at, "created_at")
            keys = dict(self._keys())
        except InvalidArgument as error:
            raise InvalidExport(error.message, line=self._header_line) from error
        restored = Restored(created, facts.revision, facts.floor, tuple(self.rows), keys)
        check = SessionCheck(self._as_stated(restored))
        check.walk(self.rows)
        for problem in check.finish():
            line = self._line_of.get(problem.revision, self._header_line)
            raise InvalidExport(problem.what, line=line)
        return restored

    def _as_stated(self, restored: Restored) -> SessionRow:
        """Return the row that the log makes, with whatever the header says about it."""
        facts = self._facts
        return replayed(
            new_session(0, "", facts.id, restored.created), restored, self.rows
        )._replace(
            message_count=facts.message_count,
            title=facts.title,
            user_id=facts.user_id,
            agent_name=facts.agent_name,
            meta=codec.encode(facts.metadata).decode(),
            labels=codec.encode(facts.labels).decode(),
        )

    def _keys(self) -> Iterator[tuple[str, KeyRow]]:
        turns = {row.turn for row in self.rows if row.kind == EntryKind.TURN}
        for name, key in self._facts.keys.items():
            check_id(name, "key")
            if key.kind not in _KEYED or not 0 <= key.revision <= self._facts.revision:
                raise InvalidArgument(f"key {name!r} is that of no write of this session")
            if key.turn not in (turns if key.kind == WriteKind.TURN else (None,)):
                raise InvalidArgument(f"key {name!r} names no turn of this session")
            yield name, KeyRow(key.kind, key.revision, key.kept, key.turn)

    def _entry(self, line: _Line) -> NewEntry:
        if line.kind == EntryKind.MESSAGE:
            messages = [
                codec.encode_stored(message, f"messages[{index}]")
                for index, message in enumerate(line.messages)
            ]
            if not messages:
                raise InvalidArgument("a message entry has messages")
            return codec.new_entry(EntryKind.MESSAGE, messages)
        if line.kind == EntryKind.RESET:
            return self._other(EntryKind.RESET, line, _ResetPayload)
        if line.kind == EntryKind.META:
            changes = _converted(line.payload, _MetaPayload)
            check_title(changes.title)
            check_optional_id(changes.user_id, "user_id")
            check_optional_id(changes.agent_name, "agent_name")
            for label, at in changes.labels.items():
                check_stored_label(label)
                if not 0 <= at <= self._facts.revision:
                    raise InvalidArgument(f"label {label!r} names revision {at}, which is not one")
            return self._other(EntryKind.META, line, _MetaPayload)
        if line.kind in (EntryKind.TURN, EntryKind.DELTA, EntryKind.USAGE):
            return self._of_turn(EntryKind(line.kind), line)
        if not line.kind:
            raise InvalidArgument("it is neither an entry nor the session's closing line")
        raise InvalidArgument(f"there are no entries of kind {line.kind!r}")

    def _of_turn(self, kind: EntryKind, line: _Line) -> NewEntry:
        check_id(line.turn, "turn")
        check_count(line.attempt, "attempt")
        if kind is not EntryKind.TURN:
            return self._other(
                kind, line, _DeltaPayload if kind is EntryKind.DELTA else _UsagePayload
            )
        facts = _converted(line.payload, _TurnPayload)
        if (facts.turn, facts.attempt) != (line.turn, line.attempt):
            raise InvalidArgument("it is not of the turn that its payload names")
        if facts.status is TurnStatus.RUNNING and facts.prompt is None:
            raise InvalidArgument("it does not say where the turn's prompt ends")
        if facts.prompt is not None and not 0 <= facts.prompt <= self._facts.revision:
            raise InvalidArgument(f"its prompt ends at {facts.prompt}, which is no revision")
        return self._other(EntryKind.TURN, line, _TurnPayload)

    def _other(self, kind: EntryKind, line: _Line, shape: type[Struct]) -> NewEntry:
        _converted(line.payload, shape)
        return codec.new_entry(kind, [codec.encode(line.payload, "payload")])


def milliseconds(text: str, name: str) -> int:
    """Return the time that ISO 8601 text says, in milliseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f"{name} is no time: {text!r}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _converted(payload: object, shape: type[T]) -> T:
    try:
        return msgspec.convert(payload, shape)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"payload: {error}") from error
