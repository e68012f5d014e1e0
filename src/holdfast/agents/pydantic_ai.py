"""An agent of Pydantic AI as a runner, driven step by step.

`agent.iter` stops before each step, so that a tool call is in the log before the tool is called,
and its result before the model is asked again. Nothing of Pydantic AI is changed or hidden: whoever
has an agent keeps it, with its tools, its model and its settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_ai.agent import AbstractAgent, Agent, AgentRun, CallToolsNode, ModelRequestNode
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import (
    FunctionToolResultEvent,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
)
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
from pydantic_ai.usage import UsageLimits
from pydantic_core import to_json

from holdfast.agents.conversion import to_model_messages, verbatim
from holdfast.agents.events import (
    Event,
    ModelCall,
    Output,
    Text,
    ToolCall,
    ToolCalls,
    ToolResult,
    Used,
    Waiting,
)
from holdfast.agents.runner import closing
from holdfast.agents.servers import note_server
from holdfast.errors import NotSupported
from holdfast.rules.history import History


class PydanticAIRunner:
    """Answers with an agent of Pydantic AI.

    `max_calls` limits how often the model is asked in one turn; beyond it `UsageLimitExceeded`. The
    agent's dependencies are `deps`, and a sync tool runs on a thread of Pydantic AI's.
    """

    def __init__(
        self, agent: AbstractAgent[Any, Any], *, deps: Any = None, max_calls: int | None = None
    ) -> None:
        self._agent = agent
        self._deps = deps
        self._limits = None if max_calls is None else UsageLimits(request_limit=max_calls)

    async def answer(self, history: History) -> AsyncIterator[Event]:
        """Yield the agent's answer."""
        async with closing(self._answer(history, None)) as events:
            async for event in events:
                yield event

    async def resume(self, history: History, approved: frozenset[str]) -> AsyncIterator[Event]:
        """Carry out what was approved, and yield the rest of the answer."""
        decided = DeferredToolResults(approvals=dict.fromkeys(approved, True))
        async with closing(self._answer(history, decided)) as events:
            async for event in events:
                yield event

    async def summarise(self, history: History) -> AsyncIterator[Event]:
        """Yield a summary by the agent's model, without its tools and its instructions."""
        plain = PydanticAIRunner(Agent(self._agent.model), max_calls=1)
        async with closing(plain.answer(history)) as events:
            async for event in events:
                yield event

    async def _answer(
        self, history: History, decided: DeferredToolResults | None
    ) -> AsyncIterator[Event]:
        iterating = self._agent.iter(
            message_history=to_model_messages(history),
            deferred_tool_results=decided,
            deps=self._deps,
            usage_limits=self._limits,
        )
        shown, in_the_log = False, decided is not None
        async with iterating as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    shown = False
                    async with closing(_asked(run, node)) as events:
                        async for event in events:
                            shown = shown or isinstance(event, Text)
                            yield event
                elif Agent.is_call_tools_node(node):
                    shown = shown and not _gives_value(run, node)
                    if not in_the_log:
                        for event in _calls(run, node):
                            yield event
                    in_the_log = False
                    async with closing(_called(run, node)) as events:
                        async for event in events:
                            yield event
            if run.result is None:
                return
            if isinstance(run.result.output, DeferredToolRequests):
                yield _waiting(run.result.output)
            else:
                if not shown:  # a value that the model gave as a tool call
                    yield Text(_as_text(run.result.output), apart=True)
                yield Output(run.result.output)


def read_output(text: str, output_type: Any) -> Any:
    """Return the value that was stored as JSON text; the text itself if it is no such value."""
    try:
        return TypeAdapter(output_type).validate_json(text)
    except (PydanticSchemaGenerationError, ValidationError):
        return text


async def _asked(run: AgentRun[Any, Any], node: ModelRequestNode[Any, Any]) -> AsyncIterator[Event]:
    """Ask the model once, and yield its text as it streams."""
    model = run.ctx.deps.model
    run.ctx.deps.usage_limits.check_before_request(run.ctx.state.usage)  # or no call is made
    yield ModelCall(model.model_name)
    try:
        async with node.stream(run.ctx) as stream:
            async for event in stream:
                match event:
                    case PartStartEvent(part=TextPart(content=text)):
                        yield Text(text)
                    case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                        yield Text(text)
                    case _:
                        pass
    except ModelAPIError as error:
        note_server(error, model.base_url)
        raise
    yield _used(stream.response, model.model_name)


def _used(response: ModelResponse, model: str) -> Used:
    usage = response.usage
    return Used(
        model=response.model_name or model,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cache_read_tokens,
        unknown=not usage.has_values(),
    )


async def _called(run: AgentRun[Any, Any], node: CallToolsNode[Any, Any]) -> AsyncIterator[Event]:
    """Call the tools that the model asked for, and yield their results."""
    async with node.stream(run.ctx) as events:
        async for event in events:
            if isinstance(event, FunctionToolResultEvent):
                part = event.part
                yield ToolResult(part.tool_call_id, part.model_response_str(), part.tool_name)


def _calls(run: AgentRun[Any, Any], node: CallToolsNode[Any, Any]) -> list[ToolCalls]:
    """Return the tools that the model asked for, but for how it gives a value."""
    manager = run.ctx.deps.tool_manager
    parts = [part for part in node.model_response.parts if not _is_output(manager, part)]
    calls = tuple(
        ToolCall(part.tool_call_id, part.tool_name, part.args_as_json_str())
        for part in parts
        if isinstance(part, ToolCallPart)
    )
    kept = verbatim(replace(node.model_response, parts=parts))
    return [ToolCalls(calls, kept)] if calls else []


def _gives_value(run: AgentRun[Any, Any], node: CallToolsNode[Any, Any]) -> bool:
    manager = run.ctx.deps.tool_manager
    return any(_is_output(manager, part) for part in node.model_response.parts)


def _waiting(requests: DeferredToolRequests) -> Waiting:
    if requests.calls:
        raise NotSupported(
            f"tool {requests.calls[0].tool_name!r} is carried out elsewhere",
            hint="give a tool that runs here, or one that requires approval",
        )
    return Waiting(tuple(part.tool_call_id for part in requests.approvals))


def _is_output(manager: Any, part: ModelResponsePart) -> bool:
    """Say whether a part is a call by which the model gives its answer as a value."""
    if not isinstance(part, ToolCallPart):
        return False
    definition = manager.get_tool_def(part.tool_name)
    return definition is not None and definition.kind == "output"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()
