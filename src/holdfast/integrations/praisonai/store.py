"""`DefaultSessionStore`: PraisonAI's session store, kept in Holdfast."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from holdfast.errors import ConfigError, Conflict, InvalidArgument, SessionNotFound
from holdfast.integrations.praisonai import details, partials, portable, recall
from holdfast.integrations.praisonai.messages import as_message
from holdfast.integrations.praisonai.readings import Readings
from holdfast.integrations.praisonai.saving import save
from holdfast.integrations.praisonai.values import (
    CompactionCheckpoint,
    ImportReport,
    SessionData,
    SessionHit,
    SessionSummary,
    with_summary,
)
from holdfast.model.message import Message
from holdfast.model.session import SessionInfo
from holdfast.store.connect import TIMEOUT_S, connect
from holdfast.store.connect import get_default_session_store as holdfast_store
from holdfast.store.sync_store import SessionStore

DEFAULT_MAX_MESSAGES = 100
DEFAULT_LOCK_TIMEOUT = 5.0
DEFAULT_CACHE_MAXSIZE = 256
RETENTION_COMPACT, RETENTION_TRUNCATE, RETENTION_KEEP_ALL = "compact", "truncate", "keep_all"
RETENTIONS = (RETENTION_COMPACT, RETENTION_TRUNCATE, RETENTION_KEEP_ALL)
DEFAULT_RETENTION = RETENTION_KEEP_ALL
FILE = "holdfast.db"
"""The store's file in a `session_dir`."""

_PAGE = 500


class DefaultSessionStore:
    """A drop-in for `praisonaiagents.session.store.DefaultSessionStore` (1.7).

    Its methods have the names, arguments and return types of that class. What they acknowledge is
    durable; failures are Holdfast's errors, never `False`. Ids are used exactly. Threads, tasks and
    processes may share a session.
    """

    def __init__(  # noqa: PLR0917 - PraisonAI's own
        self,
        session_dir: str | os.PathLike[str] | SessionStore | None = None,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
        retention: str | None = None,
        active_window: int | None = None,
        mirror: object | None = None,
        cache_maxsize: int | None = DEFAULT_CACHE_MAXSIZE,
        *,
        store: str | os.PathLike[str] | SessionStore | None = None,
    ) -> None:
        """Keep sessions in a Holdfast store.

        `store` is one, or its URL; a `session_dir` holds one in the file `holdfast.db`; without
        either it is `holdfast.get_default_session_store()`. `active_window`, or a `max_messages`
        other than 100, limits what `get_chat_history` returns, unless `retention` is `keep_all`;
        a negative one limits nothing, as in PraisonAI. Nothing is ever cut off what is stored.
        `cache_maxsize` is how many sessions' last reads are remembered. Raises `ConfigError` for a
        `mirror`, and for a `session_dir` beside a `store`.
        """
        if session_dir is not None and store is not None:
            raise ConfigError(
                f"session_dir={session_dir!r} and store={store!r} are two places for one store",
                hint="give one of them",
            )
        if mirror is not None:
            raise ConfigError(
                "a mirror is not supported: nothing is written to a second place",
                hint="read the log with follow() and write it where you want it",
            )
        if retention is not None and retention not in RETENTIONS:
            known = ", ".join(map(repr, RETENTIONS))
            raise ValueError(f"Invalid retention {retention!r}; expected one of {known}")
        self.session_dir = session_dir
        self.max_messages = max_messages
        self.lock_timeout = lock_timeout
        self.retention = retention or DEFAULT_RETENTION
        self.active_window = max_messages if active_window is None else active_window
        asked = retention or max_messages != DEFAULT_MAX_MESSAGES or active_window is not None
        window = _limit(self.active_window, "active_window")
        self._window = window if asked and retention != RETENTION_KEEP_ALL else 0
        self._shown = _limit(max_messages, "max_messages")
        self._readings = Readings(cache_maxsize or 0)
        timeout_s = TIMEOUT_S if lock_timeout == DEFAULT_LOCK_TIMEOUT else lock_timeout
        self._store, self._owned = _opened(session_dir if store is None else store, timeout_s)

    @property
    def store(self) -> SessionStore:
        """The Holdfast store beneath, for everything that PraisonAI has no word for."""
        return holdfast_store() if self._store is None else self._store

    # Adding

    def add_message(  # noqa: PLR0917 - PraisonAI's own
        self,
        session_id: str,
        role: str,
        content: Any,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: list[dict[str, Any]] | None = None,
        tool_call_id: str | None = None,
    ) -> bool:
        """Append one message; creates the session. An answer still being streamed ends there."""
        message = as_message(
            {
                "role": role,
                "content": content,
                "metadata": metadata,
                "tool_calls": tool_calls,
                "tool_call_id": tool_call_id,
            }
        )
        self._end_partial(session_id)
        self.store.add_messages(session_id, [_mapping(message)])
        return True

    def add_user_message(
        self, session_id: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """Append what the user said."""
        return self.add_message(session_id, "user", content, metadata)

    def add_assistant_message(
        self, session_id: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """Append what the assistant said."""
        return self.add_message(session_id, "assistant", content, metadata)

    def upsert_partial_assistant_message(
        self, session_id: str, content: Any, *, finalize: bool = False
    ) -> bool:
        """Keep an answer that is being streamed: its whole text so far; `finalize` ends it."""
        if not isinstance(content, str) and (content or not finalize):
            raise InvalidArgument(f"content must be the text so far, not {type(content).__name__}")
        info = self._info(session_id)
        partial = None if info is None else partials.partial_of(info)
        if not finalize:
            told = partials.Partial(partial.id if partial else _new_id(), content)
            partials.keep(self.store, session_id, told)
        elif partial is None:
            if content:
                self.store.add_assistant_message(session_id, content)
        else:
            message = partial.finished(content, {}) if content else None
            partials.close(self.store, session_id, partial, message)
        return True

    def discard_partial_assistant_message(self, session_id: str) -> bool:
        """Forget an answer that is being streamed, as another message takes its place."""
        info = self._info(session_id)
        partial = None if info is None else partials.partial_of(info)
        if partial is not None:
            partials.close(self.store, session_id, partial, None)
        return True

    # Reading

    def get_chat_history(
        self, session_id: str, max_messages: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the history for a model provider; `set_chat_history` knows what was read."""
        history = self.store.get_chat_history(session_id, max_messages or self._window or None)
        assert history.origin is not None
        partial = self._partial_shown(session_id)
        read = self._readings.hand_out(history.origin.source, history.revision, history)
        return read if partial is None else [*read, partial]

    def get_working_history(
        self, session_id: str, max_messages: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the checkpoint's summary and the messages after it; without one the history.

        At most the last `max_messages`, or the store's.
        """
        limit = max_messages or self._shown
        info = self._info(session_id)
        if info is None or info.metadata.get(details.CHECKPOINT) is None:
            return self.get_chat_history(session_id, limit)
        history = self.store.get_chat_history(session_id, at=info.revision)
        checkpoint = details.checkpoint_of(
            info, self.store.get_messages(session_id, at=info.revision)
        )
        if checkpoint is None:
            return self.get_chat_history(session_id, limit)
        assert history.origin is not None
        shown = with_summary(checkpoint, history[checkpoint.message_index :], limit)
        return self._readings.hand_out(history.origin.source, history.revision, shown, lead=1)

    def get_session(self, session_id: str) -> SessionData:
        """Return a session whole; without messages if there is none."""
        info = self._info(session_id)
        if info is None:
            return SessionData(session_id)
        found = details.whole(info, self.store.get_messages(session_id, at=info.revision))
        self._readings.hand_out(
            self._place(session_id), info.revision, [one.to_llm_message() for one in found.messages]
        )
        return found

    def session_exists(self, session_id: str) -> bool:
        """Say whether there is such a session."""
        return self.store.session_exists(session_id)

    def get_session_model(self, session_id: str) -> str | None:
        """Return the model that a session used last, if anybody recorded one."""
        return self._recorded(session_id, "model", "llm")

    def get_session_reasoning_effort(self, session_id: str) -> str | None:
        """Return the reasoning effort that a session used last, if anybody recorded one."""
        return self._recorded(session_id, "reasoning_effort")

    # Changing a history

    def set_chat_history(self, session_id: str, messages: list[dict[str, Any]]) -> bool:
        """Save a history that was read, extended or changed; nobody's messages are lost.

        Its base is the read that the list comes from: the one that its messages came with, else the
        last one of this task or thread, else the process's last of this session. What follows
        everything that was read is appended. Any other list is a rewrite, and what others added
        since the read follows it; if somebody else rewrote the history first, that stands, and new
        messages at the list's end are appended; a list with other changes raises `Conflict`. A
        session that was never read here becomes exactly this list.
        """
        if not isinstance(messages, Iterable):
            raise InvalidArgument(
                f"messages must be a list of dicts, not {type(messages).__name__}",
                hint="pass [] to begin an empty history",
            )
        messages = list(messages)
        given = [_mapping(as_message(message)) for message in messages]
        reading = self._readings.base_of(self._place(session_id), messages, given)
        self._end_partial(session_id, given)
        if reading is None:
            self.store.set_chat_history(session_id, given)
            return True
        revision = save(self.store, reading, given)
        self._readings.saved(reading, revision, given)
        return True

    def clear_session(self, session_id: str) -> bool:
        """Begin an empty history; the past stays readable in the Holdfast store."""
        self._drop_partial(session_id)
        self.store.clear_session(session_id)
        return True

    def delete_session(self, session_id: str) -> bool:
        """Delete a session and overwrite its bytes."""
        self.store.delete_session(session_id)
        return True

    def append_compaction_checkpoint(
        self,
        session_id: str,
        summary: str,
        *,
        role: str = "system",
        tokens_before: int = 0,
        tokens_after: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Let a summary stand for the history so far in `get_working_history`; false if blank."""
        if not (summary or "").strip():
            return False
        messages = self.store.get_messages(session_id)
        checkpoint = CompactionCheckpoint(
            summary=summary,
            message_index=len(messages),
            role=role,
            tokens_before=tokens_before,
            tokens_after=tokens_after,
            metadata=dict(metadata or {}),
        )
        stored = details.checkpoint_at(checkpoint, messages)
        partials.update(self.store, session_id, {details.CHECKPOINT: stored})
        return True

    # What is known about a session

    def set_agent_info(
        self, session_id: str, agent_name: str | None = None, user_id: str | None = None
    ) -> bool:
        """Say whose session this is; creates it."""
        told = {"agent_name": agent_name, "user_id": user_id}
        fields = {name: value for name, value in told.items() if value}
        info = self._info(session_id)
        if info is None:
            with contextlib.suppress(Conflict):  # another worker created it meanwhile
                info = self.store.create_session(
                    session_id, agent_name=fields.get("agent_name"), user_id=fields.get("user_id")
                )
        fields = {
            name: value
            for name, value in fields.items()
            if info is None or details.link(info, name) != value
        }
        if fields:
            partials.update(self.store, session_id, fields)
        return True

    def set_gateway_info(
        self, session_id: str, gateway_session_id: str | None = None, agent_id: str | None = None
    ) -> bool:
        """Link a session to a gateway's session and agent."""
        told = {"gateway_session_id": gateway_session_id, "agent_id": agent_id}
        partials.update(
            self.store, session_id, {name: value for name, value in told.items() if value}
        )
        return True

    def update_session_metadata(self, session_id: str, /, **fields: Any) -> bool:
        """Set these keys of a session's metadata, leave the others and those that are `None`."""
        told = {name: value for name, value in fields.items() if value is not None}
        if not told:
            return True
        title = told.pop("title", None)
        info = self._info(session_id)
        known = {} if info is None else info.metadata
        for name in list(told):
            told |= dict.fromkeys(details.entries_of(known, [name]))
        partials.update(self.store, session_id, told)
        if title is not None:
            self.store.rename_session(session_id, str(title))
        return True

    def merge_session_metadata_map(
        self,
        session_id: str,
        key: str,
        updates: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set entries of a map in the metadata; workers that set others at once all keep theirs."""
        told = {
            details.entry([key, name], details.DEFAULT): v for name, v in (defaults or {}).items()
        }
        told |= {details.entry([key, name]): value for name, value in updates.items()}
        partials.update(self.store, session_id, told)
        return True

    def rename_session(self, session_id: str, title: str) -> bool:
        """Give a session a title; a blank one takes it away."""
        partials.update(self.store, session_id, {})
        self.store.rename_session(session_id, (title or "").strip() or None)
        return True

    def set_runtime_state(
        self,
        session_id: str,
        runtime_id: str,
        turn_id: str,
        state: Mapping[str, Any],
        mirror_enabled: bool = True,  # noqa: FBT001, FBT002 - as PraisonAI's callers pass it
    ) -> bool:
        """Keep what a runtime wants to know of a turn."""
        if mirror_enabled:
            name = details.entry([details.RUNTIME, runtime_id, turn_id])
            partials.update(self.store, session_id, {name: dict(state)})
        return True

    def get_runtime_state(
        self, session_id: str, runtime_id: str, turn_id: str | None = None
    ) -> dict[str, Any]:
        """Return what a runtime kept, of one turn or of all."""
        info = self._info(session_id)
        kept = details.plain({} if info is None else info.metadata).get(details.RUNTIME)
        turns = details.mapping(details.mapping(kept).get(runtime_id))
        return turns if turn_id is None else details.mapping(turns.get(turn_id))

    def clear_runtime_state(self, session_id: str, runtime_id: str | None = None) -> bool:
        """Forget what a runtime kept, or what all of them did."""
        info = self._info(session_id)
        path = [details.RUNTIME] + ([] if runtime_id is None else [runtime_id])
        kept = {} if info is None else info.metadata
        told = dict.fromkeys(details.entries_of(kept, path))
        partials.update(self.store, session_id, told | ({} if runtime_id else {path[0]: None}))
        return True

    # Finding sessions

    def list_sessions(self, limit: int | None = 50) -> list[dict[str, Any]]:
        """Return what is known about sessions, the one changed last first; all without a limit."""
        return [details.described(info) for info in self._infos(limit)]

    def list_sessions_by_agent(self, agent_name: str, limit: int | None = 50) -> list[str]:
        """Return the ids of an agent's sessions, the one changed last first."""
        return self._linked("agent_name", agent_name, limit)

    def get_sessions_by_agent(self, agent_name: str, limit: int | None = 10) -> list[SessionData]:
        """Return an agent's sessions whole."""
        return [self.get_session(name) for name in self.list_sessions_by_agent(agent_name, limit)]

    def get_agent_chat_history(
        self, agent_name: str, max_messages: int | None = None, max_sessions: int | None = 5
    ) -> list[dict[str, Any]]:
        """Return the messages of an agent's sessions, each with its session's id."""
        return [
            {**message, "session_id": session.session_id, "agent_name": agent_name}
            for session in self.get_sessions_by_agent(agent_name, max_sessions)
            for message in session.get_chat_history(max_messages)
        ]

    def get_by_gateway_session(self, gateway_session_id: str) -> SessionData | None:
        """Return the session that a gateway's session is linked to."""
        found = self._linked("gateway_session_id", gateway_session_id, 1)
        return self.get_session(found[0]) if found else None

    def list_sessions_by_gateway_agent(self, agent_id: str, limit: int | None = 50) -> list[str]:
        """Return the ids of the sessions that a gateway's agent is linked to."""
        return self._linked("agent_id", agent_id, limit)

    def search(self, query: str, *, limit: int = 5, window: int = 5) -> list[SessionHit]:
        """Return the sessions in which messages hold all words of a query, the best first."""
        return recall.search(self.store, query, limit=limit, around=window)

    def window(
        self, session_id: str, around_message_id: str | int | None = None, *, window: int = 5
    ) -> list[dict[str, Any]]:
        """Return the messages around one of them, which its number names; else the last ones."""
        return recall.window(self.store.get_messages(session_id), around_message_id, window)

    def recent(self, *, limit: int = 10) -> list[SessionSummary]:
        """Return the sessions that changed last."""
        return [recall.summary(info) for info in self._infos(limit)]

    # Out and in

    def export_session(self, session_id: str, *, include_lineage: bool = True) -> dict[str, Any]:
        """Return a session, and those of its lineage, as PraisonAI exports them."""
        if not self.session_exists(session_id):
            return portable.payload([])
        session = self.get_session(session_id)
        if not include_lineage:
            return portable.payload([session])
        others = (info.id for info in self._infos(None) if info.id != session_id)
        return portable.payload(portable.lineage(session, map(self.get_session, others)))

    def export_all(self) -> dict[str, Any]:
        """Return all sessions as PraisonAI exports them."""
        return portable.payload(self.get_session(info.id) for info in self._infos(None))

    def import_sessions(
        self,
        payload: object,
        *,
        max_sessions: int = 10_000,
        reset_live_fields: bool = True,
        overwrite: bool = False,
    ) -> ImportReport:
        """Take sessions that PraisonAI exported; one that is there stays, unless overwritten."""
        return portable.imported(
            self.store,
            payload,
            max_sessions=max_sessions,
            reset_live_fields=reset_live_fields,
            overwrite=overwrite,
        )

    # What there is nothing to do for here

    def flush_mirror(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - PraisonAI's name
        """Return true: there is no mirror."""
        return True

    def close_mirror(self) -> None:
        """Do nothing: there is no mirror."""

    def invalidate_cache(self, session_id: str | None = None) -> None:
        """Do nothing: every read sees what is stored."""

    def close(self) -> None:
        """Let go of a store that this object opened itself."""
        if self._owned:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Inside

    def _info(self, session_id: str) -> SessionInfo | None:
        try:
            return self.store.get_session(session_id)
        except SessionNotFound:
            return None

    def _infos(self, limit: int | None) -> Iterator[SessionInfo]:
        cursor: str | None = None
        while limit is None or limit > 0:
            page = self.store.list_sessions(min(limit or _PAGE, _PAGE), cursor=cursor)
            yield from page
            cursor = page.next_cursor
            if cursor is None:
                return
            limit = limit and limit - len(page)

    def _linked(self, name: str, value: str, limit: int | None) -> list[str]:
        found = [info.id for info in self._infos(None) if details.link(info, name) == value]
        return found[:limit]

    def _recorded(self, session_id: str, *names: str) -> str | None:
        info = self._info(session_id)
        if info is None:
            return None
        places: Iterable[Mapping[str, Any]] = (
            info.metadata,
            *(one.get("metadata") or {} for one in reversed(self.store.get_messages(session_id))),
        )
        found = (place.get(name) for place in places for name in names)
        return next((value for value in found if isinstance(value, str) and value), None)

    def _place(self, session_id: str) -> tuple[str, str, str]:
        origin = self.store.get_chat_history(session_id, 0).origin
        assert origin is not None
        return origin.source

    def _partial(self, session_id: str) -> partials.Partial | None:
        info = self._info(session_id)
        if info is None or partials.partial_of(info) is None:
            return None
        return partials.partial_of(info, self.store.get_messages(session_id, at=info.revision))

    def _partial_shown(self, session_id: str) -> dict[str, Any] | None:
        partial = self._partial(session_id)
        return None if partial is None else {"role": "assistant", "content": partial.content}

    def _end_partial(self, session_id: str, given: Iterable[Message] = ()) -> None:
        """Make a message of an answer that nobody finished, unless the caller has it already."""
        partial = self._partial(session_id)
        if partial is not None:
            told = any(
                (one["role"], one["content"]) == ("assistant", partial.content) for one in given
            )
            partials.close(self.store, session_id, partial, None if told else partial.message)

    def _drop_partial(self, session_id: str) -> None:
        partial = self._partial(session_id)
        if partial is not None:
            partials.close(self.store, session_id, partial, None)


def _opened(
    place: str | os.PathLike[str] | SessionStore | None, timeout_s: float
) -> tuple[SessionStore | None, bool]:
    """Return the store that a caller means, and whether it was opened here; `None`: the default."""
    if place is None or isinstance(place, SessionStore):
        return place, False
    if not isinstance(place, str | os.PathLike):
        raise InvalidArgument(
            f"a store must be a path, a URL or a SessionStore, not {type(place).__name__}",
            hint='pass a folder or a file, such as DefaultSessionStore("chats.db")',
        )
    if isinstance(place, str) and "://" in place:
        return connect(place, timeout=timeout_s), True
    path = Path(place)
    if path.suffix != ".db":
        path.mkdir(parents=True, exist_ok=True)
        path /= FILE
    return connect(path, timeout=timeout_s), True


def _limit(value: int | None, name: str) -> int:
    """Return how many messages are shown; 0: all."""
    if value is not None and not isinstance(value, int):
        raise InvalidArgument(
            f"{name} must be a whole number, not {value!r}",
            hint="leave it out to show all messages",
        )
    return max(value or 0, 0)


def _mapping(message: object) -> Message:
    if not isinstance(message, dict):
        raise InvalidArgument(f"a message must be a dict, not {type(message).__name__}")
    return message


def _new_id() -> str:
    return f"msg_{os.urandom(8).hex()}"
