"""From what a user says of an agent to a runner: the model, its instructions, its tools."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast.agents.offline import NAME as OFFLINE
from holdfast.agents.offline import OfflineRunner
from holdfast.agents.runner import Runner
from holdfast.agents.servers import without_password
from holdfast.agents.tools import asks_first
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_ai.models import Model

DEFAULTS = {
    "OPENAI_API_KEY": "openai:gpt-4o-mini",
    "ANTHROPIC_API_KEY": "anthropic:claude-haiku-4-5",
    "GOOGLE_API_KEY": "google:gemini-3.5-flash-lite",
    "GEMINI_API_KEY": "google:gemini-3.5-flash-lite",
}
"""Which model is used if none is named: that of the first variable which is set."""

_FAMILIES = {
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude-": "anthropic",
}
_NEITHER = f'or say model="{OFFLINE}", which needs neither a key nor a network'


class Character(Struct, frozen=True, kw_only=True):
    """What makes up an agent that a model plays.

    `tools` are functions with types and a docstring, sync or async. With an `output_type` the
    answer is a value of it. A `base_url` names a server that speaks OpenAI's chat completions.
    `max_calls` limits how often the model is asked in one turn. Of a history longer than
    `history_tokens` the model is sent the end; with `compact="auto"` the rest is summarised. A
    `base_url` that is the `url_of_session` may come from anywhere: it is given no key that was not
    given for it.
    """

    name: str = "Agent"
    instructions: str | None = None
    model: str | Model | None = None
    tools: tuple[Callable[..., Any], ...] = ()
    output_type: Any = str
    base_url: str | None = None
    api_key: str | None = None
    max_calls: int | None = None
    history_tokens: int | None = None
    compact: str | None = None
    url_of_session: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing was said that a model needs."""
        plain = Character(name=self.name, history_tokens=self.history_tokens, compact=self.compact)
        return self == plain


def runner_for(character: Character) -> Runner:
    """Return who answers for this character.

    Raises `ConfigError` if no model is named and no key is there, if the model is not known, or if
    what it needs is not installed.
    """
    model = character.model
    if character.url_of_session:
        _keep_key_from(character)
    if model is None and character.base_url is None:
        model = _default_model()
    if model == OFFLINE:
        if character.output_type is not str:
            raise ConfigError(
                "the offline model answers with text only",
                hint="use a model with output_type, or leave it out",
            )
        if character.base_url is not None or character.tools:
            what = "calls no tools" if character.tools else "is at no server"
            raise ConfigError(
                f"the offline model {what}", hint="name another model, or leave them out"
            )
        return OfflineRunner()
    try:
        return _with_pydantic_ai(character, model)
    except ImportError as error:
        raise ConfigError(
            f"model {model!r} needs a package that is not installed: {error}",
            code="missing_extra",
            hint=f"{_installing(error, model)}, {_NEITHER}",
        ) from error


def _keep_key_from(character: Character) -> None:
    """Refuse to send the environment's key to a server that only a session names."""
    configured = os.environ.get("OPENAI_BASE_URL", "")
    if (
        character.base_url is not None
        and character.base_url.rstrip("/") != configured.rstrip("/")
        and character.api_key is None
        and os.environ.get("OPENAI_API_KEY")
    ):
        raise ConfigError(
            f"the session names the server {without_password(character.base_url)}, which is not "
            "given the key in OPENAI_API_KEY",
            code="foreign_server",
            hint="if you trust it, pass base_url or api_key, in a config or to update_agent",
        )


def _installing(error: ImportError, model: str | Model | None) -> str:
    if (error.name or "").partition(".")[0] == "pydantic_ai":
        return "pip install 'holdfast[agents]'"
    provider = _provider(model) or "anthropic"
    return f"install what this provider needs: pip install 'pydantic-ai-slim[{provider}]'"


def _default_model() -> str:
    for variable, model in DEFAULTS.items():
        if os.environ.get(variable):
            return model
    raise ConfigError(
        f"no model is named, and none of {', '.join(DEFAULTS)} is set",
        code="no_model",
        hint=f'set one of them, or name a model such as "openai:gpt-4o-mini", {_NEITHER}',
    )


def _provider(model: str | Model | None) -> str | None:
    """Return the provider that a model's name says, if it says one."""
    if not isinstance(model, str):
        return None
    provider, colon, _ = _full_name(model).partition(":")
    return provider if colon else None


def _unset_keys(model: str | Model | None) -> list[str]:
    """Return the variables that could hold the key of a model's provider, if none is set."""
    provider = _provider(model)
    known = [name for name, usual in DEFAULTS.items() if usual.partition(":")[0] == provider]
    return [] if any(map(os.environ.get, known)) else known


def _with_pydantic_ai(character: Character, model: str | Model | None) -> Runner:
    import pydantic_ai
    from pydantic_ai import Agent, DeferredToolRequests, Tool
    from pydantic_ai.exceptions import UserError

    from holdfast.agents.pydantic_ai import PydanticAIRunner

    # It would write its banner into the answers of whoever only asked Holdfast for an agent.
    pydantic_ai.BANNER_ENABLED = False
    try:
        asks = any(map(asks_first, character.tools))
        agent = Agent(
            _model(model, character.base_url, character.api_key),
            name=character.name,
            instructions=character.instructions,
            tools=[
                Tool(t, requires_approval=True) if asks_first(t) else t for t in character.tools
            ],
            output_type=[character.output_type, DeferredToolRequests]
            if asks
            else character.output_type,
        )
    except UserError as error:
        missing = [] if character.api_key is not None else _unset_keys(model)
        if missing:
            raise ConfigError(
                f"model {model!r} needs a key, and {' or '.join(missing)} is not set",
                hint=f"set it, {_NEITHER}",
            ) from error
        raise ConfigError(
            f"model {model!r} cannot be used: {error}",
            hint=f'name it with its provider, as in "openai:gpt-4o-mini", set its key, {_NEITHER}',
        ) from error
    return PydanticAIRunner(agent, max_calls=character.max_calls)


def _model(model: str | Model | None, base_url: str | None, api_key: str | None) -> Model:
    from pydantic_ai.models import Model, infer_model

    if model is not None and not isinstance(model, str | Model):
        raise ConfigError(
            f"model={model!r} is no model",
            hint='pass a name such as "openai:gpt-4o-mini", or a model of Pydantic AI',
        )
    if isinstance(model, str):
        model = _full_name(model)
        if base_url is None and model.startswith("openai:"):
            # Whoever has a server of their own rarely has OpenAI's newer interface.
            base_url = os.environ.get("OPENAI_BASE_URL")
    if base_url is None and api_key is None:
        return infer_model(_required(model))
    if not isinstance(model, str):
        raise ConfigError(
            "base_url and api_key go with a model's name",
            hint='pass model="llama3.2" or the like, or set them in the model itself',
        )
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise ConfigError(
            f"the base URL {base_url!r} is no address of a server",
            hint="write it whole, as in http://localhost:11434/v1",
        )
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    name = model.removeprefix("openai-chat:").removeprefix("openai:")
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=base_url, api_key=api_key))


def _required(model: str | Model | None) -> str | Model:
    if model is None:
        raise ConfigError("no model is named", hint='pass model="openai:gpt-4o-mini" or another')
    return model


def _full_name(name: str) -> str:
    """Return a model's name with its provider, where the name alone says which that is."""
    if ":" in name:
        return name
    if "/" in name:  # as litellm writes it
        return name.replace("/", ":", 1)
    for beginning, provider in _FAMILIES.items():
        if name.startswith(beginning):
            return f"{provider}:{name}"
    return name
