"""How far a turn has come, and what its model calls used."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class TurnStatus(StrEnum):
    """How far a turn has come; an entry records each change."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Usage(Struct, frozen=True, kw_only=True):
    """One model call's token counts; `unknown` if the call ended without telling."""

    call: str
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    unknown: bool = False


class ModelUsage(Struct, frozen=True, kw_only=True):
    """What the calls of one model used: `requests` counts them, `unknown` those that did not tell.

    An unknown call is a request too; its tokens are what was told of it, mostly none.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0
    unknown: int = 0


class UsageTotals(Struct, frozen=True, kw_only=True):
    """What model calls used: sums over their records, all together and for each model.

    In `models`, calls that named no model stand under the empty text.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0
    unknown: int = 0
    models: dict[str, ModelUsage] = {}
