"""Agents: who answers a conversation, in turns that are kept whatever happens.

`PydanticAIRunner` needs `pip install 'holdfast[agents]'` and is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from holdfast.agents.adapting import FunctionRunner, as_runner
from holdfast.agents.agent import Agent
from holdfast.agents.driving import Answer, Asking, Stage, drive
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
from holdfast.agents.managed import ManagedAgent, ManagedConfig
from holdfast.agents.notices import Notice
from holdfast.agents.offline import OfflineRunner
from holdfast.agents.reply import Reply
from holdfast.agents.runner import Resuming, Runner, Summarising
from holdfast.agents.settings import MemoryConfig
from holdfast.agents.tools import idempotent, needs_approval
from holdfast.model.message import VerbatimMessage

if TYPE_CHECKING:
    from holdfast.agents.pydantic_ai import PydanticAIRunner

__all__ = [
    "Agent",
    "Answer",
    "Asking",
    "Event",
    "FunctionRunner",
    "ManagedAgent",
    "ManagedConfig",
    "MemoryConfig",
    "ModelCall",
    "Notice",
    "OfflineRunner",
    "Output",
    "PydanticAIRunner",
    "Reply",
    "Resuming",
    "Runner",
    "Stage",
    "Summarising",
    "Text",
    "ToolCall",
    "ToolCalls",
    "ToolResult",
    "Used",
    "VerbatimMessage",
    "Waiting",
    "as_runner",
    "drive",
    "idempotent",
    "needs_approval",
]


def __getattr__(name: str) -> Any:
    if name == "PydanticAIRunner":
        from holdfast.agents.pydantic_ai import PydanticAIRunner

        return PydanticAIRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
