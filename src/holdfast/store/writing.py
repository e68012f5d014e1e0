"""The writes that the public methods send: checked arguments in, `Write` values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import Struct, structs

from holdfast.errors import InvalidArgument, InvalidMessage
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.message import Message
from holdfast.model.session import REVISION_BITS
from holdfast.model.turn import Interrupting, Recovering
from holdfast.model.write import Creation, Reset, Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.arguments import (
    check_age,
    check_count,
    check_id,
    check_label,
    check_optional_count,
    check_optional_id,
    check_title,
)
from holdfast.rules.history import History, Origin
from holdfast.rules.saving import plan_saving
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources


class Save(Struct, frozen=True):
    """A save to be sent: the write, the list that it was made from, and what it makes of it.

    `payloads` are the whole history's once it is saved, if nobody else wrote in the meantime.
    """

    write: Write
    planned: list[Message]
    payloads: tuple[bytes, ...]

    def made(self, commit: Commit) -> bool:
        """Say whether the history at this commit is certainly what `payloads` hold."""
        base, reset = self.write.base_revision, self.write.reset
        if commit.replayed or commit.kept:
            return False
        if base is None:
            return True
        before = commit.history_revision - len(self.write.entries) - (reset is not None)
        return before == base or (base == 0 and before % (1 << REVISION_BITS) == 0)


class Writing:
    """Builds one tenant's writes."""

    def __init__(self, reading: Reading, tenant: str, sources: Sources) -> None:
        self._reading = reading
        self._tenant = tenant
        self._sources = sources

    def add(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        path: str,
        expected_revision: int | None = None,
        key: str | None = None,
    ) -> Write:
        """Append messages, as one entry."""
        if not isinstance(messages, list | tuple):
            raise InvalidMessage(
                f"messages must be a list of messages, not {type(messages).__name__}"
            )
        lines = codec.encode_messages(messages, path, self._stamp())
        return Write(
            tenant=self._tenant,
            session_id=check_id(session_id),
            kind=WriteKind.ADD,
            entries=(codec.new_entry(EntryKind.MESSAGE, lines),) if lines else (),
            expected_revision=check_optional_count(expected_revision, "expected_revision"),
            key=check_optional_id(key, "key"),
        )

    def save(
        self,
        session_id: str,
        messages: Sequence[Message],
        base_revision: int | None = None,
        key: str | None = None,
    ) -> Save:
        """Append to, rewrite or replace a history, as `rules.saving` says; this reads."""
        check_id(session_id)
        given = list(messages) if isinstance(messages, list) else messages
        base, payloads, repaired = self._base(session_id, messages, base_revision)
        saving = plan_saving(
            given,
            payloads,
            may_append=base is not None,
            stamp=self._stamp(),
            repaired=repaired,
        )
        reset: Reset | None = None
        entries: tuple[NewEntry, ...] = ()
        if not saving.appends:
            reset = Reset("replace" if base is None else "rewrite", base)
            entries = codec.chunked(saving.lines)
            payloads = ()
        elif saving.lines:
            entries = (codec.new_entry(EntryKind.MESSAGE, saving.lines),)
        write = Write(
            tenant=self._tenant,
            session_id=session_id,
            kind=WriteKind.SAVE,
            entries=entries,
            reset=reset,
            base_revision=base,
            key=check_optional_id(key, "key"),
        )
        return Save(write, list(given), (*payloads, *(entry.payload for entry in entries)))

    def clear(self, session_id: str) -> Write:
        """Begin an empty generation."""
        return Write(
            tenant=self._tenant,
            session_id=check_id(session_id),
            kind=WriteKind.CLEAR,
            reset=Reset("clear"),
            creation=Creation.FORBIDDEN,
        )

    def create(
        self,
        session_id: str | None,
        *,
        title: str | None,
        user_id: str | None,
        agent_name: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> Write:
        """Create a session that is not there yet."""
        if session_id is None:
            session_id = self._sources.new_id()
        changes: dict[str, Any] = {
            "title": check_title(title),
            "user_id": check_optional_id(user_id, "user_id"),
            "agent_name": check_optional_id(agent_name, "agent_name"),
        }
        changes = {name: value for name, value in changes.items() if value is not None}
        if metadata is not None:
            changes["metadata"] = _mapping(metadata, "metadata")
        return Write(
            tenant=self._tenant,
            session_id=check_id(session_id),
            kind=WriteKind.CREATE,
            entries=(meta_entry(changes),) if changes else (),
            creation=Creation.REQUIRED,
        )

    def change(self, session_id: str, changes: Mapping[str, Any]) -> Write:
        """Change a session's title or metadata."""
        return Write(
            tenant=self._tenant,
            session_id=check_id(session_id),
            kind=WriteKind.CHANGE,
            entries=(meta_entry(changes),),
            creation=Creation.FORBIDDEN,
        )

    def rename(self, session_id: str, title: str | None) -> Write:
        """Change a session's title."""
        return self.change(session_id, {"title": check_title(title)})

    def label(self, session_id: str, name: str, revision: int) -> Write:
        """Give a revision of a session a name, or move the name to it."""
        write = self.change(session_id, {"labels": {check_label(name): revision}})
        return structs.replace(write, base_revision=revision)

    def purge(self, session_id: str, floor: int) -> Write:
        """Remove the generations of a session below a floor."""
        return Write(
            tenant=self._tenant,
            session_id=session_id,
            kind=WriteKind.PURGE,
            creation=Creation.FORBIDDEN,
            floor=floor,
        )

    def ended_by(self, older_than: timedelta | None) -> int | None:
        """Return the time by which a generation has to have ended, in milliseconds."""
        age = check_age(older_than, "older_than")
        return None if age is None else self._sources.now_ms() - age // timedelta(milliseconds=1)

    def signal(self, session_id: str, action: Interrupting | Recovering) -> Write:
        """Ask a turn to stop, or close the turn of a worker that died."""
        return Write(
            tenant=self._tenant,
            session_id=check_id(session_id),
            kind=WriteKind.TURN,
            turn=action,
        )

    def delete(self, session_id: str) -> Write:
        """Delete a session with everything that it has."""
        return Write(tenant=self._tenant, session_id=check_id(session_id), kind=WriteKind.DELETE)

    def _stamp(self) -> codec.Stamp:
        return self._sources.message_id, self._sources.now_text()

    def _base(
        self, session_id: str, messages: Sequence[Message], base_revision: int | None
    ) -> tuple[int | None, tuple[bytes, ...], bool | None]:
        """Return the revision to save on, if any, the payloads there, and how they were viewed."""
        origin = messages.origin if isinstance(messages, History) else None
        own = origin is not None and origin.source == self._reading.source(session_id)
        if own and origin is not None:
            _require_whole(origin)
        if base_revision is not None:
            if check_count(base_revision, "base_revision") == 0:
                return 0, (), None
            found = self._reading.history(session_id, at=base_revision).origin
            assert found is not None
            return found.revision, found.payloads, None
        if origin is not None:
            base = origin.revision if own and not origin.pinned else None
            return base, origin.payloads, origin.repaired
        current = self._reading.history(session_id, repaired=False).origin
        return None, current.payloads if current else (), None


def _require_whole(origin: Origin) -> None:
    if origin.partial:
        raise InvalidMessage(
            "this history was read with max_messages, so what lies before it would be lost",
            hint="read it without a limit, or add messages with add_messages",
        )
    if origin.spent:
        raise InvalidMessage(
            "this history was saved already, and what it is now was not read",
            hint="read it again before you save it again",
        )


def meta_entry(changes: Mapping[str, Any]) -> NewEntry:
    """Return the entry that changes what is known about a session."""
    plain = codec.encodable(changes, "")
    return codec.new_entry(EntryKind.META, [codec.encode(plain)])


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name} must be a mapping, not {type(value).__name__}")
    return value
