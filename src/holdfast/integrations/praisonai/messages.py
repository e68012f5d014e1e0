"""Messages of PraisonAI's and ours, both ways.

PraisonAI takes whatever it is given; Holdfast stores what a model provider understands. What does
not fit is kept in the message's metadata rather than refused: it was acknowledged once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.integrations.praisonai.values import SessionMessage
from holdfast.model.message import PLAIN_KEYS, PLAIN_ROLES, ROLES, Message
from holdfast.rules.exporting import EPOCH, time_text

LATEST_MS = 253_402_300_799_000
"""The last second of the year 9999: nothing later can be written down."""


def as_message(given: object) -> object:
    """Return a message of PraisonAI's as Holdfast stores it; anything else as it is, to be refused.

    Empty fields go, `timestamp` becomes `created_at`, and every other key stays.
    """
    if not isinstance(given, Mapping):
        return given
    if is_plain(given) and _is_role(given.get("role"), PLAIN_ROLES):
        return dict(given)
    message: Message = {"role": "user", "content": "", **given}
    role = message["role"]
    metadata = message.pop("metadata", None)
    kept = dict(metadata) if isinstance(metadata, Mapping) else {}
    if metadata and not isinstance(metadata, Mapping):
        kept["praisonai_metadata"] = metadata
    if "timestamp" in message:
        at = milliseconds(message["timestamp"])
        if at is not None:
            message.setdefault("created_at", time_text(at))
            del message["timestamp"]
    _fit_tools(message, kept)
    if not _is_role(role, ROLES) or (role == "tool" and not _call_id(message)):
        kept["praisonai_role"] = role
        message["role"] = "system"
    message["content"] = _content(message)
    return message | ({"metadata": kept} if kept else {})


def is_plain(message: Mapping[str, Any]) -> bool:
    """Say whether a message is a role and a text, as nearly all are: nothing in it can change."""
    return len(message) == PLAIN_KEYS and type(message.get("content")) is str


def as_session_message(message: Message) -> SessionMessage:
    """Return a stored message as PraisonAI's callers know it."""
    metadata = dict(message.get("metadata") or {})
    return SessionMessage(
        role=str(metadata.pop("praisonai_role", message["role"])),
        content=message.get("content") or "",
        timestamp=(milliseconds(message.get("created_at")) or 0) / 1000,
        metadata=metadata,
        tool_calls=message.get("tool_calls") or metadata.pop("praisonai_tool_calls", None),
        tool_call_id=message.get("tool_call_id"),
    )


def milliseconds(value: object) -> int | None:
    """Return a time, in seconds since 1970 or as ISO 8601, in milliseconds; `None` if it is none.

    One without a zone is taken for UTC.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at = (moment - EPOCH) // timedelta(milliseconds=1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        at = round(value * 1000)
    else:
        return None
    return at if 0 <= at <= LATEST_MS else None


def _is_role(role: object, roles: Collection[str]) -> bool:
    return isinstance(role, str) and role in roles


def _fit_tools(message: Message, kept: dict[str, Any]) -> None:
    calls = message.get("tool_calls")
    if calls and not _are_calls(calls):
        kept["praisonai_tool_calls"] = calls
        calls = None
    for name, value in (("tool_calls", calls), ("tool_call_id", _call_id(message))):
        message.pop(name, None)
        if value:
            message[name] = value


def _are_calls(calls: object) -> bool:
    return isinstance(calls, list) and all(
        isinstance(call, Mapping) and isinstance(call.get("id"), str) and call["id"]
        for call in calls
    )


def _call_id(message: Message) -> str | None:
    found = message.get("tool_call_id")
    return found if isinstance(found, str) else None


def _content(message: Message) -> object:
    content = message["content"]
    if content is None or content == []:
        return None if "tool_calls" in message else ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        return content
    try:
        return json.dumps(content, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # no JSON value: to be refused with its path
        return content
