"""The public store: sessions and their messages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from holdfast.errors import (
    Conflict,
    HoldfastError,
    InvalidMessage,
    OutcomeUnknown,
    SessionNotFound,
    Unavailable,
)
from holdfast.model.commit import Commit, Deletion, Purge
from holdfast.model.entry import Entry
from holdfast.model.message import Message, new_message
from holdfast.model.search import SearchHit
from holdfast.model.session import Page, Point, SessionInfo
from holdfast.model.stats import Stats
from holdfast.model.turn import Interrupting, Recovering, Signalled
from holdfast.rules.history import History
from holdfast.rules.verification import Verification
from holdfast.store._async_shell import AsyncShell
from holdfast.store.async_turn import AsyncTurn
from holdfast.store.copying import Copying
from holdfast.store.engine import Engine
from holdfast.store.following import Follower
from holdfast.store.opening import OnBusy, TurnOptions, TurnRequest
from holdfast.store.reading import Reading
from holdfast.store.searching import Searching
from holdfast.store.sources import Sources
from holdfast.store.walking import Walking
from holdfast.store.writing import Save, Writing

NEWS_S = 30.0
"""A follower looks so often even if nothing tells it to."""

PURGES_TOGETHER = 64
"""How many sessions are purged in one batch: they are erased together, and others wait so long."""


class AsyncSessionStore:
    """Sessions of one tenant in one store; `connect_async` makes it.

    Writes are durable when they return, and every write is atomic. Reads see one committed state
    and never take a write lock. Any number of tasks, threads and processes may share a session.
    A session id is any text of 1 to 512 bytes of UTF-8, used exactly.
    """

    def __init__(self, engine: Engine, tenant: str, sources: Sources, timeout_s: float) -> None:
        self._engine = engine
        self._shell = AsyncShell(engine, timeout_s)
        self._reading = Reading(engine.backend, tenant)
        self._walking = Walking(engine.backend, self._reading, tenant)
        self._writing = Writing(self._reading, tenant, sources)
        self._copying = Copying(self._reading, tenant, sources)
        self._searching = Searching(engine.backend, tenant, sources, timeout_s)
        self._tenant = tenant

    @property
    def tenant(self) -> str:
        """The tenant whose sessions these are."""
        return self._tenant

    @property
    def location(self) -> str:
        """Where the data is, for people."""
        return self._engine.backend.location

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._engine.closed

    # Adding

    async def add_message(
        self,
        session_id: str,
        role: str,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        tool_call_id: str | None = None,
        key: str | None = None,
    ) -> Commit:
        """Append one message; creates the session.

        `content` is text, a list of parts, or `None` beside `tool_calls`. The same `key` again
        writes nothing and returns the first outcome. Raises `InvalidMessage`.
        """
        message = new_message(
            role, content, metadata=metadata, tool_calls=tool_calls, tool_call_id=tool_call_id
        )
        return await self._shell.commit(
            self._writing.add(session_id, [message], path="message", key=key)
        )

    async def add_user_message(
        self,
        session_id: str,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Commit:
        """Append what the user said; as `add_message`."""
        return await self.add_message(session_id, "user", content, metadata=metadata, key=key)

    async def add_assistant_message(
        self,
        session_id: str,
        content: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        key: str | None = None,
    ) -> Commit:
        """Append what the assistant said; as `add_message`."""
        return await self.add_message(
            session_id, "assistant", content, metadata=metadata, tool_calls=tool_calls, key=key
        )

    async def add_messages(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        expected_revision: int | None = None,
        key: str | None = None,
    ) -> Commit:
        """Append messages together: all of them, next to each other, or none.

        With `expected_revision` the history must still be at that revision, else `Conflict`, and
        nothing is written. Raises `InvalidMessage`, which names the value at fault.
        """
        return await self._shell.commit(
            self._writing.add(
                session_id,
                messages,
                path="messages[{}]",
                expected_revision=expected_revision,
                key=key,
            )
        )

    # Reading

    async def get_chat_history(
        self,
        session_id: str,
        max_messages: int | None = None,
        *,
        at: Point | None = None,
        repair: bool = True,
    ) -> History:
        """Return the history as a model provider takes it, oldest first; `[]` if there is none.

        At most the last `max_messages`, never beginning inside a tool exchange; as it was `at` a
        revision, at a label, when the turn with an id was closed, or -n turns ago: before them
        (without turns: user messages). Unless `repair` is false, open tool calls are closed and
        stray results left out, in this view only. The result remembers its revision for
        `set_chat_history`.
        """
        return await self._shell.read(
            self._reading.history, session_id, max_messages, at, repaired=repair
        )

    async def get_messages(
        self, session_id: str, max_messages: int | None = None, *, at: Point | None = None
    ) -> list[Message]:
        """Return the stored messages whole: ids, times, metadata and every other key."""
        return await self._shell.read(self._reading.messages, session_id, max_messages, at)

    async def read_entries(
        self, session_id: str, after: int = 0, limit: int | None = None
    ) -> list[Entry]:
        """Return the log itself above revision `after`, oldest first.

        About `limit` entries: never an end between a rewrite's reset and its last message. Raises
        `SessionNotFound`, also if `after` is a revision of a deleted session with this id.
        """
        return await self._shell.read(self._reading.entries, session_id, after, limit)

    async def search(
        self, query: str, *, user_id: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        """Return messages of the current histories that hold all words of a query, the best first.

        Words match whatever their case and accents; "words in quotes" stand next to each other, and
        `begin*` finds what begins so. `user_id` restricts to the sessions of a user. Sees every
        message that was acknowledged before. It is the one reader that writes: it brings the search
        index up to date. Raises `InvalidArgument` if the query has no word.
        """
        wanted = self._searching.wanted(query, user_id, limit)
        catch_up = await self._shell.read(self._searching.catch_up)
        while catch_up.due:
            try:
                catch_up.done(await self._shell.index(catch_up.write, catch_up.remaining_s()))
            except HoldfastError as error:
                catch_up.failed(error)
        return await self._shell.read(self._searching.hits, wanted)

    # Changing a history

    async def set_chat_history(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        base_revision: int | None = None,
        key: str | None = None,
    ) -> Commit:
        """Save a history that was read, changed and is now handed back; nobody's messages are lost.

        The base is the `History`'s revision, or `base_revision`. A list that begins with the whole
        history at its base is appended to whatever the history is now; any other is a rewrite, and
        messages added after the base follow it (`Commit.kept`). Two rewrites from one base: the
        later raises `Conflict` and writes nothing. Without a base the history becomes exactly this
        list. Atomic: no reader sees anything between before and after. A `History` that was saved
        equals what is stored then, and may be saved again.
        """
        save = await self._shell.read(self._writing.save, session_id, messages, base_revision, key)
        commit = await self._shell.commit(save.write)
        if isinstance(messages, History):
            await self._settle(messages, save, commit)
        return commit

    async def _settle(self, history: History, save: Save, commit: Commit) -> None:
        """Make a saved history what is stored now; what goes wrong here must not fail the save."""
        origin = history.origin
        try:
            stored = await self._shell.read(
                self._reading.after_save,
                save.write.session_id,
                commit.history_revision,
                save.payloads if save.made(commit) else None,
                repaired=origin is None or origin.repaired,
            )
        except BaseException as error:
            history.spend()
            if not isinstance(error, HoldfastError):
                raise
        else:
            history.settle(save.planned, stored)

    async def edit_history(
        self,
        session_id: str,
        function: Callable[
            [History], Sequence[Message] | Awaitable[Sequence[Message] | None] | None
        ],
    ) -> Commit:
        """Read the history, apply `function`, save; from the start again on `Conflict`.

        `function` returns the new history, or changes the one it is given and returns `None`. It
        may be called several times, so it should do nothing else.
        """
        while True:
            history = await self.get_chat_history(session_id)
            edited = await self._shell.call(function, history)
            if edited is None:
                edited = history
            if not isinstance(edited, list | tuple):
                raise InvalidMessage(
                    f"the function must return a list of messages, not {type(edited).__name__}"
                )
            try:
                return await self.set_chat_history(session_id, History(edited, history.origin))
            except Conflict as conflict:
                if conflict.code != Conflict.default_code:
                    raise

    async def clear_session(self, session_id: str) -> bool:
        """Begin an empty history and say whether there were messages; the past stays readable."""
        try:
            commit = await self._shell.commit(self._writing.clear(session_id))
        except SessionNotFound:
            return False
        return commit.removed > 0

    async def rewind_session(self, session_id: str, to: Point) -> Commit:
        """Make the history what it was at `to`: a revision, a label, a turn, or -n turns ago.

        A new generation begins with the messages as they are stored; the old one stays readable.
        What others add meanwhile is left behind, unless `to` is -n: then it is counted anew, so
        that no more goes than was asked for. `Commit.removed` says how many messages left.
        """
        while True:
            write = await self._shell.read(self._copying.rewind, session_id, to)
            try:
                return await self._shell.commit(write)
            except Conflict:
                if write.expected_revision is None:
                    raise

    async def compact_session(
        self,
        session_id: str,
        summary: str | Message,
        *,
        keep_last: int,
        base: int | History | None = None,
    ) -> Commit:
        """Put a summary in the place of all but the last `keep_last` messages.

        Text becomes a `system` message. `base` is the history that the summary was made of, or its
        revision; what came after it is kept, and `Conflict` says that it was rewritten since.
        Without one it is the history as it is now. What is kept never begins inside a tool
        exchange. The whole history stays readable with `at=`.
        """
        return await self._shell.commit(
            await self._shell.read(
                self._copying.compact, session_id, summary, keep_last=keep_last, base=base
            )
        )

    async def label(self, session_id: str, name: str, *, at: Point | None = None) -> Commit:
        """Name a revision, for `at=` and `to=`; the same name again moves.

        It is the history's current one, or that of the history at a point. `SessionInfo.labels` has
        them all. A label is any id that is neither a number nor begins as a turn's does.
        """
        revision = await self._shell.read(self._reading.revision, session_id, at)
        return await self._shell.commit(self._writing.label(session_id, name, revision))

    # Turns

    def turn(
        self,
        session_id: str,
        prompt: str | Message | Sequence[Message] | None = None,
        *,
        key: str | None = None,
        user_id: str | None = None,
        on_busy: OnBusy = "wait",
        timeout: float = 60.0,
        ttl: float = 30.0,
        flush_interval: float = 0.1,
        resume: str | None = None,
    ) -> AsyncTurn:
        """Return a turn to be used with `async with`: a prompt, and whatever answers it.

        Entering commits the prompt and takes the session's lease in one write; one turn of a
        session runs at a time, anywhere. If another runs, `on_busy` says what to do: `wait` for it,
        first come first served, or `reject`, or `interrupt` it; after `timeout` seconds
        `SessionBusy`. The lease lasts `ttl` seconds and is renewed meanwhile. The same `key` again
        gives back a turn that was completed, or stopped on request, and repeats one that crashed or
        failed. `resume` goes on with a turn that waits, by its id, and gives back one that is over.
        Raises `WrongUser` if the session is another user's.
        """
        options = TurnOptions(
            key=key,
            user_id=user_id,
            on_busy=on_busy,
            timeout_s=timeout,
            ttl_s=ttl,
            flush_interval_s=flush_interval,
            resume=resume,
        )
        place = (self._tenant, session_id)
        request = TurnRequest(self._engine, self._reading, place, prompt, options)
        return AsyncTurn(self._shell, request)

    async def interrupt(self, session_id: str) -> bool:
        """Ask the session's running turn to stop, wherever it runs; false if none does."""
        return await self._signal(session_id, Interrupting())

    async def recover(self) -> int:
        """Close the turns of workers that died, and return how many; what they showed is kept."""
        now = await self._shell.read(self._reading.open_turns)
        closed = 0
        for row in now:
            with contextlib.suppress(SessionNotFound):  # deleted since
                closed += await self._signal(row.id, Recovering())
        return closed

    async def _signal(self, session_id: str, action: Interrupting | Recovering) -> bool:
        write = self._writing.signal(session_id, action)
        return (await self._shell.answer(write, Signalled)).happened

    async def follow(self, session_id: str, after: int = 0) -> AsyncIterator[Entry]:
        """Yield the entries above a revision, then each new one, of any process; it does not end.

        Begin again anywhere with the last revision that you saw. Ends with `SessionNotFound` when
        the session is deleted, also if another one takes its id.
        """
        follower = Follower(self._reading, session_id, after)
        while True:
            mark = self._shell.mark
            entries = await self._shell.read(follower.read)
            for entry in entries:
                yield entry
            if not entries:
                await self._shell.wait_for_news(mark, NEWS_S)

    # Sessions

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        title: str | None = None,
        user_id: str | None = None,
        agent_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> SessionInfo:
        """Create a session, with an id of its own if none is given; `Conflict` if it exists."""
        write = self._writing.create(
            session_id, title=title, user_id=user_id, agent_name=agent_name, metadata=metadata
        )
        await self._shell.commit(write)
        return await self._read_back(write.session_id)

    async def fork_session(
        self, session_id: str, new_id: str | None = None, *, at: Point | None = None
    ) -> SessionInfo:
        """Create a session that begins with another's history, now or at a point.

        Title, user, agent and metadata are copied, and the messages with their ids and times; keys
        and labels are not. `Conflict` if `new_id` exists, and nothing is written.
        """
        write = await self._shell.read(self._copying.fork, session_id, new_id, at)
        await self._shell.commit(write)
        return await self._read_back(write.session_id)

    async def get_session(self, session_id: str) -> SessionInfo:
        """Return what is known about a session; `SessionNotFound` if there is none."""
        return await self._shell.read(self._reading.session, session_id)

    async def session_exists(self, session_id: str) -> bool:
        """Say whether there is such a session."""
        return await self._shell.read(self._reading.exists, session_id)

    async def list_sessions(
        self,
        limit: int = 50,
        *,
        cursor: str | None = None,
        user_id: str | None = None,
        agent_name: str | None = None,
    ) -> Page[SessionInfo]:
        """Return up to `limit` sessions, the one changed last first.

        Pass the page's `next_cursor` as `cursor` for the next one; it is `None` at the end.
        """
        return await self._shell.read(self._reading.sessions, limit, cursor, user_id, agent_name)

    async def rename_session(self, session_id: str, title: str | None) -> SessionInfo:
        """Give a session another title; `SessionNotFound` if there is none."""
        await self._shell.commit(self._writing.rename(session_id, title))
        return await self._read_back(session_id)

    async def update_session_metadata(self, session_id: str, /, **fields: Any) -> SessionInfo:
        """Set these keys of a session's metadata, leave the others; `SessionNotFound` if none."""
        await self._shell.commit(self._writing.change(session_id, {"metadata": fields}))
        return await self._read_back(session_id)

    async def _read_back(self, session_id: str) -> SessionInfo:
        """Read a session that was just written; `Unavailable` would say that it was not."""
        try:
            return await self.get_session(session_id)
        except Unavailable as error:
            raise OutcomeUnknown(
                f"session {session_id!r} was written, but cannot be read back: {error.message}",
                hint="read it with get_session",
            ) from error

    async def delete_session(self, session_id: str) -> Deletion:
        """Delete a session and everything it has; true if there was one.

        The bytes are overwritten too; `erasure` says whether that is done already. Its revisions
        and keys never fit a new session with the same id.
        """
        return await self._shell.delete(self._writing.delete(session_id))

    # Whole logs

    async def export_session(self, session_id: str) -> str:
        """Return a session and its log as text, a JSON object a line, for `import_session`.

        Everything that was not purged: all generations, metadata and labels. Idempotency keys are
        not in it. Raises `CorruptEntry` rather than export what is damaged.
        """
        return await self._shell.read(self._walking.export, session_id)

    async def import_session(self, text: str, session_id: str | None = None) -> SessionInfo:
        """Create a session from an export, with its own id or another, in one commit.

        The log is as it was: ids, times, generations, labels; revisions keep their distance from
        the session's first. `Conflict` if the session exists; `InvalidExport` names the line that
        is wrong. Either way nothing is written.
        """
        write = await self._shell.read(self._copying.restore, text, session_id)
        await self._shell.commit(write)
        return await self._read_back(write.session_id)

    async def purge(
        self, session_id: str | None = None, *, older_than: timedelta | None = None
    ) -> Purge:
        """Destroy the generations before the current one, of a session or of all of the tenant's.

        With `older_than` only those that ended at least that long ago. Reading them raises `Purged`
        from then on. Each session is purged in one commit, and the bytes are overwritten as those
        of a deleted session are. The current history, metadata, labels and keys stay.
        """
        ended_by = self._writing.ended_by(older_than)
        due = await self._shell.read(self._walking.floors, session_id, ended_by)
        total = Purge()
        for first in range(0, len(due), PURGES_TOGETHER):
            some = due[first : first + PURGES_TOGETHER]
            writes = [self._writing.purge(name, floor) for name, floor in some]
            for outcome in await self._shell.purge(writes):
                if isinstance(outcome, Purge):
                    total += outcome
                elif session_id is not None or not isinstance(outcome, SessionNotFound):
                    raise outcome
        return total

    # The whole store

    async def stats(self, session_id: str | None = None) -> Stats:
        """Count this tenant's sessions, messages, entries and tokens used, or one session's."""
        return await self._shell.read(self._reading.stats, session_id)

    async def verify(self, session_id: str | None = None) -> Verification:
        """Recompute every checksum and count, of one session or of all; true if all is well."""
        return await self._shell.read(self._walking.verify, session_id)

    async def close(self) -> None:
        """Commit what is queued, then let go of the store. Closing twice is harmless.

        Replies of agents that this process has begun in it are waited for; Ctrl-C stops them. On
        the event loop that answers one, the synchronous face raises `NotSupported` instead, with
        the code `would_block`, and stays open.
        """
        await self._shell.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
