"""A managed agent: an agent and its sessions, kept in a store and taken up by their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack
from uuid import uuid4

from msgspec.structs import replace

from holdfast.agents.answering import Answering
from holdfast.agents.driving import Answer, Asking, Prompt, Stage, Wishes
from holdfast.agents.events import ToolCall
from holdfast.agents.models import Character
from holdfast.agents.notices import Notices, Place
from holdfast.agents.reply import Reply
from holdfast.agents.sessions import (
    TERMINATED,
    begin_session,
    decided,
    facts_of,
    session_facts,
    usage_of,
    waiting_calls,
)
from holdfast.agents.settings import (
    AnyStore,
    check_above_0,
    check_prompt,
    check_texts,
    opened,
    refuse_unknown,
)
from holdfast.agents.tools import checked_tools
from holdfast.errors import ConfigError, Conflict, InvalidArgument, SessionNotFound, WrongUser
from holdfast.model.session import SessionInfo
from holdfast.rules.arguments import check_optional_id
from holdfast.store.faces import async_face
from holdfast.store.sync_store import SessionStore

if TYPE_CHECKING:
    from pydantic_ai.models import Model

KEPT = "managed_agent"
"""The key of a session's metadata under which its agent is kept."""

_ELSEWHERE = "tools run in your own process; nothing is installed or started for them"
_REASONS = {
    "packages": _ELSEWHERE,
    "networking": _ELSEWHERE,
    "compute": _ELSEWHERE,
    "env": _ELSEWHERE,
    "working_dir": _ELSEWHERE,
    "host_packages_ok": _ELSEWHERE,
    "mcp_servers": "wrap an agent of Pydantic AI that has them, with runner=",
    "on_tool_confirmation": "mark the tool with needs_approval, then approve or deny its calls",
    "on_custom_tool": "pass the tool itself as a function",
}


class ManagedConfig:
    """What makes up a managed agent: its model, system text, name and tools.

    `max_turns` limits how often the model is asked for one prompt. `metadata` and `session_title`
    become those of its sessions. `tools` are functions with types and a docstring. A `base_url`
    names a server that speaks OpenAI's chat completions; `api_key` is never stored.
    `history_tokens` and `compact` are those of `Agent`. Raises `ConfigError` for a key that
    Holdfast does not know, with the reason.
    """

    __slots__ = (
        "api_key",
        "base_url",
        "compact",
        "history_tokens",
        "max_turns",
        "metadata",
        "model",
        "name",
        "session_title",
        "system",
        "tools",
    )

    def __init__(
        self,
        model: str | Model | None = None,
        system: str | None = None,
        name: str = "Agent",
        tools: Iterable[Callable[..., Any]] = (),
        *,
        max_turns: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        session_title: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        history_tokens: int | None = None,
        compact: Literal["auto"] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown("ManagedConfig", unknown, self.__slots__, _REASONS)
        check_above_0("max_turns", max_turns)
        check_texts(
            system=system,
            name=name,
            session_title=session_title,
            base_url=base_url,
            api_key=api_key,
        )
        if not isinstance(metadata, Mapping | None):
            raise ConfigError(
                f"metadata={metadata!r} has no keys", hint='pass a dict such as {"plan": "free"}'
            )
        self.model = model
        self.system = system
        self.name = name
        self.tools = checked_tools(tools)
        self.max_turns = max_turns
        self.metadata = dict(metadata or {})
        self.session_title = session_title
        self.base_url = base_url
        self.api_key = api_key
        self.history_tokens = history_tokens
        self.compact = compact

    def changed(self, **changes: Any) -> ManagedConfig:
        """Return a configuration with these keys changed."""
        return ManagedConfig(**{key: getattr(self, key) for key in self.__slots__} | changes)

    def character(self) -> Character:
        """Return who it is, to whoever answers."""
        return Character(
            name=self.name,
            instructions=self.system,
            model=self.model,
            tools=self.tools,
            base_url=self.base_url,
            api_key=self.api_key,
            max_calls=self.max_turns,
            history_tokens=self.history_tokens,
            compact=self.compact,
        )

    def kept(self) -> dict[str, Any]:
        """Return what is stored of it: all but the tools, which are code, and the key."""
        return {
            "name": self.name,
            "model": self.model if isinstance(self.model, str) else None,
            "system": self.system,
            "max_turns": self.max_turns,
            "session_title": self.session_title,
            "base_url": self.base_url,
            "history_tokens": self.history_tokens,
            "compact": self.compact,
        }


class ManagedAgent:
    """An agent whose sessions are managed: begun, listed, resumed, interrupted, by their ids.

    Everything is in the store, so another process goes on with a session by its `session_id`, with
    the same model and system text unless another `config` is given. Turns of one session run one
    after the other, whoever starts them. `execute` and `stream` are for tasks; in threads use
    `Agent(backend=managed).start(...)`. `runner` is anything that answers, in place of a model.
    `provider` is `"local"`, the only one.
    """

    def __init__(
        self,
        provider: str = "local",
        config: ManagedConfig | None = None,
        *,
        store: AnyStore | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        runner: Any = None,
    ) -> None:
        if provider != "local":
            raise ConfigError(
                f"there is no provider {provider!r}",
                hint='use provider="local" and name the model in the config: the agent runs in '
                "your process, and its model may be anywhere",
            )
        if config is not None and not isinstance(config, ManagedConfig):
            raise ConfigError(
                f"config={config!r} is no configuration", hint="pass a ManagedConfig(model=...)"
            )
        check_optional_id(session_id, "session_id")
        check_optional_id(user_id, "user_id")
        self._store = opened(store)
        self._config = config
        self._is_own = config is not None  # and not a session's
        self._kept_url: str | None = None  # one that was a session's, and nobody has given here
        self._lost: str | None = None  # what had answered in a session, and cannot be kept
        self._runner = runner
        self._user_id = user_id
        self._agent_id = f"agent_{uuid4().hex[:16]}"
        self._agent_version = 1
        self._session_id = _new_id()
        self._listed_as = self.config.name  # also once it was renamed
        self._begun: set[str] = set()
        # With a configuration, what is wrong with it is known at once.
        self._answering = None if config is None else self._make_answering(config)
        if session_id is not None:
            if self._store.session_exists(session_id):
                self.resume_session(session_id)
            self._session_id = session_id

    # Who and where

    @property
    def agent_id(self) -> str:
        """The agent's id; its sessions keep it."""
        return self._agent_id

    @property
    def agent_version(self) -> int:
        """How often it was updated, from 1 on."""
        return self._agent_version

    @property
    def environment_id(self) -> None:
        """Nothing: tools run in your own process."""
        return

    @property
    def session_id(self) -> str:
        """The session that it talks in; it begins with the first prompt."""
        return self._session_id

    @property
    def store(self) -> SessionStore:
        """Where its sessions are kept."""
        return self._store

    @property
    def config(self) -> ManagedConfig:
        """What makes it up."""
        return self._config or ManagedConfig()

    # Answering

    async def execute(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> str:
        """Answer a prompt, and return the text; everything of it is in the store by then.

        `key`, `on_busy` and `timeout` are those of `store.turn`. Errors of the model are raised,
        and what was said by then is kept. Cancelling the task stops the answer, and keeps it too.
        """
        return str(await self.reply_to(prompt, **wishes).go_through())

    async def stream(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> AsyncIterator[str]:
        """Answer a prompt, and yield the text as it comes.

        The answer does not wait for its reader, and is finished and stored without one: leaving the
        loop stops nothing; `interrupt` does, and so does the end of the event loop.
        """
        async for piece in self.reply_to(prompt, **wishes).begin_here():
            yield piece

    def reply_to(self, prompt: Prompt, **wishes: Unpack[Wishes]) -> Reply:
        """Return the reply to a prompt, which has not begun yet."""
        check_prompt(prompt)
        session_id, config = self._session_id, self.config
        answering = self._answerer()
        asking = Asking(session_id=session_id, prompt=prompt, user_id=self._user_id, **wishes)

        async def work(stage: Stage, left_s: float) -> Answer:
            store = async_face(self._store)
            await begin_session(store, session_id, **self._facts(config))
            self._begun.add(session_id)
            return await answering.answer(store, replace(asking, timeout=left_s), stage)

        return Reply(self._store, session_id, work, on_busy=asking.on_busy, timeout=asking.timeout)

    def events(self, after: Place = None) -> Notices:
        """Return what happens in the session, of any process, and then each new thing; endless.

        The session begins, if it has not yet. `after` is a notice, its `id`, or a
        revision: going on behind it misses nothing.
        """
        self._begin()
        return Notices(self._store, async_face(self._store), self._session_id, after)

    def interrupt(self) -> bool:
        """Stop the session's running turn, in whatever process it runs; false if none does.

        The call of the model is cancelled within a second, and what was said is kept.
        """
        try:
            return self._store.interrupt(self._session_id)
        except SessionNotFound:
            return False

    @property
    def pending_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls that wait for a person to agree."""
        return waiting_calls(self._store, self._session_id)

    def approve(self, call_id: str) -> Reply:
        """Agree to a tool call that waits, in whatever process it was asked for.

        Once every call of the turn is decided on, the answer goes on here: the tool is called, and
        the model is asked again. The `Reply` is that of the rest; in a task it can be awaited.
        Raises `Conflict` with the code `not_waiting`, also of a call that was decided on before.
        """
        return self._decide(call_id, approved=True)

    def deny(self, call_id: str, reason: str | None = None) -> Reply:
        """Refuse a tool call that waits; the model is told, with the reason. As `approve`."""
        return self._decide(call_id, approved=False, reason=reason)

    def _decide(self, call_id: str, **what: Any) -> Reply:
        return decided(self._store, self._answerer(), self._session_id, call_id, **what)

    # Sessions

    def retrieve_session(self) -> dict[str, Any]:
        """Return the session's `id`, `status`, `title` and `usage`: always all four.

        The status is `idle`, `running`, `waiting` or, if it was deleted, `terminated`. The usage
        has `input_tokens`, `output_tokens` and `cached_tokens`, sums over all of the session's
        calls of models, and `unknown`, how many of these did not tell.
        """
        try:
            info = self._store.get_session(self._session_id)
        except SessionNotFound:
            status = TERMINATED if self._session_id in self._begun else "idle"
            return session_facts(self._session_id, status, self.config.session_title or "")
        return facts_of(self._store, info)

    def list_sessions(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return the sessions in the store that an agent of this name has begun, the latest first.

        Each is as `retrieve_session` gives it. With a `user_id` only those of that user.
        """
        found = self._store.list_sessions(limit, agent_name=self._listed_as, user_id=self._user_id)
        return [facts_of(self._store, info) for info in found]

    def resume_session(self, session_id: str) -> None:
        """Go on with a session, of whatever process: its history and usage are the store's.

        Without a configuration of its own, the agent takes up the model and the system text that
        the session was begun with; tools are code, and have to be given again. Raises
        `SessionNotFound`, or `WrongUser`, and then goes on with the session that it had.
        """
        info = self._store.get_session(session_id)
        if self._user_id is not None and info.user_id not in (None, self._user_id):
            raise WrongUser(f"session {session_id!r} belongs to another user")
        self._take_up(info)
        self._session_id = session_id
        self._begun.add(session_id)

    def reset_session(self) -> str:
        """Begin a new session with the next prompt, and return its id; the old one stays."""
        self._session_id = _new_id()
        return self._session_id

    def save_ids(self) -> dict[str, Any]:
        """Return the ids with which another process can go on, as plain values.

        The session begins, if it has not yet.
        """
        self._begin()
        return {
            "agent_id": self._agent_id,
            "agent_version": self._agent_version,
            "environment_id": None,
            "session_id": self._session_id,
        }

    def restore_ids(self, ids: Mapping[str, Any]) -> None:
        """Go on with the ids that `save_ids` gave; raises `SessionNotFound` as resuming does."""
        given: object = ids
        if not isinstance(given, Mapping) or "session_id" not in given:
            raise InvalidArgument(
                f"ids={given!r} have no 'session_id'", hint="pass what save_ids gave"
            )
        self.resume_session(ids["session_id"])
        self._agent_id = ids.get("agent_id") or self._agent_id
        self._agent_version = ids.get("agent_version") or self._agent_version

    def update_agent(self, **changes: Any) -> None:
        """Change keys of the configuration; the conversation goes on. Raises `ConfigError`.

        A session that is there gets the title and the metadata that are among them.
        """
        config = self.config.changed(**changes)
        if "base_url" in changes:
            self._kept_url = None
        self._answering = self._make_answering(config)
        self._config, self._is_own = config, True
        self._agent_version += 1
        facts = (config.metadata if "metadata" in changes else {}) | {KEPT: self._kept(config)}
        try:
            self._store.update_session_metadata(self._session_id, **facts)
            if "session_title" in changes:
                self._store.rename_session(self._session_id, config.session_title)
        except SessionNotFound:
            return  # it will begin with them

    @property
    def total_input_tokens(self) -> int:
        """The input tokens of all of the session's calls of models."""
        return usage_of(self._store, self._session_id).get("input_tokens", 0)

    @property
    def total_output_tokens(self) -> int:
        """The output tokens of all of the session's calls of models."""
        return usage_of(self._store, self._session_id).get("output_tokens", 0)

    # Within

    def _answerer(self) -> Answering:
        if self._answering is None:
            self._answering = self._make_answering(self.config)
        return self._answering

    def _make_answering(self, config: ManagedConfig) -> Answering:
        if self._runner is not None:
            plain = Character(
                name=config.name, history_tokens=config.history_tokens, compact=config.compact
            )
            return Answering(plain, self._runner)
        if self._lost is not None and config.model is None:
            raise ConfigError(
                f"the session was answered by a {self._lost}, an object, which cannot be kept",
                code="model_not_kept",
                hint="go on with a config that has a model, or with a runner",
            )
        foreign = config.base_url is not None and config.base_url == self._kept_url
        return Answering(replace(config.character(), url_of_session=foreign))

    def _begin(self) -> None:
        if self._session_id in self._begun:
            return
        try:
            self._store.create_session(self._session_id, **self._facts(self.config))
        except Conflict as conflict:
            if conflict.code != "session_exists":
                raise
        self._begun.add(self._session_id)

    def _facts(self, config: ManagedConfig) -> dict[str, Any]:
        return {
            "title": config.session_title,
            "user_id": self._user_id,
            "agent_name": self._listed_as,
            "metadata": config.metadata | {KEPT: self._kept(config)},
        }

    def _kept(self, config: ManagedConfig) -> dict[str, Any]:
        ids = {"agent_id": self._agent_id, "agent_version": self._agent_version}
        answers = config.model if self._runner is None else self._runner
        lost = None if answers is None or isinstance(answers, str) else type(answers).__name__
        return ids | config.kept() | {"object": lost}

    def _take_up(self, info: SessionInfo) -> None:
        found = info.metadata.get(KEPT)
        kept = found if isinstance(found, dict) else {}
        if not self._is_own:
            known = {key: kept[key] for key in ManagedConfig().kept() if key in kept}
            self._config = ManagedConfig(**known)
            self._kept_url = self._config.base_url
            self._lost = kept.get("object")
            self._listed_as = info.agent_name or self._listed_as
            self._answering = None
        self._agent_id = kept.get("agent_id", self._agent_id)
        self._agent_version = kept.get("agent_version", self._agent_version)


def _new_id() -> str:
    return f"session_{uuid4().hex[:16]}"
