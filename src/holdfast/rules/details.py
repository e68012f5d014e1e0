"""A session's title, user, agent, metadata and labels: a projection of its meta entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.model.session import Details
from holdfast.rules import codec

NO_DETAILS: Details = (None, None, None, "{}", "{}")
"""Those of a session that nobody has described."""


def changed_details(details: Details, changes: Mapping[str, Any]) -> Details:
    """Apply a meta entry."""
    title, user_id, agent_name, meta, labels = details
    return (
        changes.get("title", title),
        changes.get("user_id", user_id),
        changes.get("agent_name", agent_name),
        _merged(meta, changes["metadata"]) if "metadata" in changes else meta,
        _merged(labels, changes["labels"]) if "labels" in changes else labels,
    )


def _merged(stored: str, changes: Mapping[str, Any]) -> str:
    return codec.encode({**codec.decode_object(stored), **changes}).decode()
