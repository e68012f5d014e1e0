"""An agent that answers with one call, and whose conversation is there tomorrow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, Unpack, overload, runtime_checkable
from uuid import uuid4

from msgspec.structs import replace

from holdfast.agents.answering import Answering
from holdfast.agents.driving import Answer, Asking, Prompt, Stage, Wishes
from holdfast.agents.events import ToolCall
from holdfast.agents.models import Character
from holdfast.agents.reply import Reply
from holdfast.agents.sessions import begin_session, decided, waiting_calls
from holdfast.agents.settings import (
    AnyStore,
    Memory,
    check_above_0,
    check_prompt,
    check_texts,
    memory_config,
    opened,
)
from holdfast.agents.tools import checked_tools
from holdfast.errors import ConfigError
from holdfast.rules.arguments import check_optional_id
from holdfast.rules.history import History
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.faces import async_face
from holdfast.store.sync_store import SessionStore

if TYPE_CHECKING:
    from pydantic_ai.models import Model


@runtime_checkable
class Backend(Protocol):
    """Who answers for an agent that has a backend: a managed agent."""

    def approve(self, call_id: str) -> Reply:
        """Agree to a tool call that waits."""
        ...

    def deny(self, call_id: str, reason: str | None = None) -> Reply:
        """Refuse one."""
        ...

    @property
    def session_id(self) -> str:
        """The session that is talked in."""
        ...

    @property
    def store(self) -> SessionStore:
        """Where that is kept."""
        ...

    def reply_to(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Reply:
        """Return the reply to a prompt, which has not begun yet."""
        ...


class Agent:
    """Who answers in one session of a store: a model with instructions and tools.

    Everything that is said is in the store: the prompt before the model is asked, the answer as it
    streams, each tool call before the tool runs. Another process, today or tomorrow, goes on with
    the same `session`. Without one an id is made up; `session_id` has it. `model` is any that
    Pydantic AI names, such as `"openai:gpt-4o-mini"`, or `"offline"`; with `base_url` a server of
    one's own. `tools` are functions with types and a docstring, sync or async. `runner` is anything
    else that answers: a `Runner`, an asynchronous generator function, an agent of Pydantic AI.
    `backend` is a `ManagedAgent`, which then decides on all of it. Of a history longer than
    `history_tokens`, by estimate, the model is sent the end; with `compact="auto"` it first
    summarises the rest, into a generation whose original stays readable. Raises `ConfigError`.
    """

    def __init__(
        self,
        name: str = "Agent",
        instructions: str | None = None,
        model: str | Model | None = None,
        tools: Iterable[Callable[..., Any]] = (),
        *,
        session: str | None = None,
        store: AnyStore | None = None,
        memory: Memory = None,
        user_id: str | None = None,
        runner: Any = None,
        backend: Backend | None = None,
        output_type: Any = str,
        base_url: str | None = None,
        api_key: str | None = None,
        max_calls: int | None = None,
        history_tokens: int | None = None,
        compact: Literal["auto"] | None = None,
    ) -> None:
        check_above_0("max_calls", max_calls)
        check_texts(name=name, instructions=instructions, base_url=base_url, api_key=api_key)
        self._name = name
        self._backend = backend
        character = Character(
            name=name,
            instructions=instructions,
            model=model,
            tools=checked_tools(tools),
            output_type=output_type,
            base_url=base_url,
            api_key=api_key,
            max_calls=max_calls,
            history_tokens=history_tokens,
            compact=compact,
        )
        if backend is not None:
            if isinstance(backend, type) or not isinstance(backend, Backend):
                raise ConfigError(
                    f"backend={backend!r} is no managed agent",
                    hint="pass a ManagedAgent, or leave it out and say model=",
                )
            _refuse_beside("backend", character, runner, session, store, memory, user_id)
            return
        remembered = memory_config(memory)
        session = _one("session", session, "session_id", remembered.session_id)
        address = _one("store", store, "db", remembered.db)
        self._user_id = _one("user_id", user_id, "user_id", remembered.user_id)
        check_optional_id(session, "session")
        check_optional_id(self._user_id, "user_id")
        self._answering = Answering(character, runner)
        self._session_id = session or f"session_{uuid4().hex[:16]}"
        if session is None:
            _show(self._session_id)
        self._store = opened(address)
        self._owns_store = not isinstance(address, SessionStore | AsyncSessionStore | None)

    @property
    def name(self) -> str:
        """What it is called; sessions that it begins are listed under this name."""
        return self._name

    @property
    def session_id(self) -> str:
        """The session that it talks in."""
        return self._backend.session_id if self._backend is not None else self._session_id

    @property
    def store(self) -> SessionStore:
        """The store in which the session is."""
        return self._backend.store if self._backend is not None else self._store

    @property
    def chat_history(self) -> History:
        """The conversation so far, as the store has it now."""
        return self.store.get_chat_history(self.session_id)

    @overload
    def start(
        self,
        prompt: Prompt,
        *,
        stream: Literal[False] = ...,
        **wishes: Unpack[Wishes],
    ) -> Any: ...
    @overload
    def start(
        self,
        prompt: Prompt,
        *,
        stream: Literal[True],
        **wishes: Unpack[Wishes],
    ) -> Reply: ...
    def start(self, prompt: Prompt, *, stream: bool = False, **wishes: Unpack[Wishes]) -> Any:
        """Answer a prompt: its text, or a value of the output type; with `stream`, a `Reply`.

        One turn of the session runs at a time, in whatever thread or process; `key`, `on_busy` and
        `timeout` are those of `store.turn`. A `Reply` is begun at once, and finished and stored
        even if nobody reads it. Errors of the model are raised, and what was said by then is kept.
        Ctrl-C stops the answer, and keeps it too.
        """
        reply = self._reply_to(prompt, **wishes).begin()
        if stream:
            return reply
        try:
            return reply.output
        except KeyboardInterrupt:
            reply.interrupt()
            reply.wait()
            raise

    run = chat = start  # as PraisonAI's users write it

    @overload
    async def astart(
        self,
        prompt: Prompt,
        *,
        stream: Literal[False] = ...,
        **wishes: Unpack[Wishes],
    ) -> Any: ...
    @overload
    async def astart(
        self,
        prompt: Prompt,
        *,
        stream: Literal[True],
        **wishes: Unpack[Wishes],
    ) -> Reply: ...
    async def astart(
        self, prompt: Prompt, *, stream: bool = False, **wishes: Unpack[Wishes]
    ) -> Any:
        """Do what `start` does, on the caller's event loop; read the `Reply` with `async for`.

        Cancelling the caller stops the answer, and keeps what was said. So does the end of the loop
        with a `Reply` that is under way: await it before.
        """
        reply = self._reply_to(prompt, **wishes)
        return reply.begin_here() if stream else await reply.go_through()

    @property
    def pending_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls that wait for a person to agree."""
        return waiting_calls(self.store, self.session_id)

    def approve(self, call_id: str) -> Reply:
        """Agree to a tool call that waits, in whatever process it was asked for.

        Once every call of the turn is decided on, the answer goes on here: the tool is called, and
        the model is asked again. The `Reply` is that of the rest. Raises `Conflict` with the code
        `not_waiting`, also of a call that was decided on before.
        """
        if self._backend is not None:
            return self._backend.approve(call_id)
        return self._decide(call_id, approved=True)

    def deny(self, call_id: str, reason: str | None = None) -> Reply:
        """Refuse a tool call that waits; the model is told, with the reason. As `approve`."""
        if self._backend is not None:
            return self._backend.deny(call_id, reason)
        return self._decide(call_id, approved=False, reason=reason)

    def _decide(self, call_id: str, **what: Any) -> Reply:
        return decided(self._store, self._answering, self._session_id, call_id, **what)

    def _reply_to(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Reply:
        if self._backend is not None:
            return self._backend.reply_to(prompt, **wishes)
        check_prompt(prompt)
        asking = Asking(session_id=self._session_id, prompt=prompt, user_id=self._user_id, **wishes)

        async def work(stage: Stage, left_s: float) -> Answer:
            store = async_face(self._store)
            await begin_session(
                store, self._session_id, agent_name=self._name, user_id=self._user_id
            )
            return await self._answering.answer(store, replace(asking, timeout=left_s), stage)

        return Reply(
            self._store, self._session_id, work, on_busy=asking.on_busy, timeout=asking.timeout
        )

    def close(self) -> None:
        """Close the store, if the agent opened it; replies that are under way are waited for."""
        if self._backend is None and self._owns_store:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Agent {self._name!r} in session {self.session_id!r}>"


def _one(name: str, given: Any, other_name: str, other: Any) -> Any:
    """Return what was given in one of two places."""
    if given is not None and other is not None and given != other:
        raise ConfigError(f"{name}= and memory's {other_name!r} are both given", hint="give one")
    return other if given is None else given


def _refuse_beside(what: str, character: Character, *others: Any) -> None:
    """Refuse what would have no effect beside a backend."""
    if character != Character(name=character.name) or any(o is not None for o in others):
        raise ConfigError(
            f"{what}= decides on the model, the tools, the session and the store",
            hint="give them to the managed agent",
        )


def _show(session_id: str) -> None:
    """Tell whoever sits at a terminal which session was made up."""
    if sys.stderr.isatty():
        sys.stderr.write(f"holdfast: session={session_id!r} goes on with this conversation\n")
