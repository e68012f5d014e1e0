"""What no import does: change a session that is there already."""

from __future__ import annotations

from holdfast.errors import Conflict


def require_new(there: list[str], place: str, hint: str) -> None:
    """Refuse to import sessions that are there already, or stand in the source twice."""
    if there:
        raise Conflict(
            f"nothing was imported: in {place} there is already {', '.join(map(repr, there))}",
            code="session_exists",
            hint=hint,
        )
