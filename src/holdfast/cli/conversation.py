"""A conversation for people to read: who said what, and which tools were called."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from holdfast.cli.escaping import json_text, visible, visible_body
from holdfast.cli.printing import age, iso, plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from holdfast.model.message import Message
    from holdfast.model.session import SessionInfo

_ROLES = {"user": "bold green", "assistant": "bold cyan", "tool": "bold yellow"}
_SHOWN_APART = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "created_at", "metadata")
)
_LONG = 300
_NO_CALL: dict[str, Any] = {}


def heading(session: SessionInfo, *, full: bool) -> Iterator[RenderableType]:
    """Yield the session's own lines: what it is called, whose it is, how long, how old."""
    from rich.text import Text

    yield Text(visible(session.title or session.id), style="bold")
    about = [f"session {visible(session.id)}"] if session.title else []
    if session.user_id:
        about.append(f"user {visible(session.user_id)}")
    if session.agent_name:
        about.append(f"agent {visible(session.agent_name)}")
    about.append(plural(session.message_count, "message"))
    about.append(f"revision {session.revision}")
    about.append(f"changed {age(session.updated_at)}")
    yield Text(" · ".join(about), style="dim")
    if session.labels:
        named = (f"{visible(name)} ({at})" for name, at in session.labels.items())
        yield Text(f"labels {', '.join(named)}", style="dim")
    if full:
        yield Text(f"created {iso(session.created_at)}", style="dim")
        if session.metadata:
            yield Text(f"metadata {_inline(session.metadata)}", style="dim")


def message_lines(message: Message, *, full: bool) -> Iterator[RenderableType]:
    """Yield one message: its role and time, its text, its calls or whose result it is."""
    from rich.padding import Padding
    from rich.text import Text

    role = visible(message.get("role", "?"))
    head = Text(role, style=_ROLES.get(role, "bold"))
    if message.get("name"):
        head.append(f" {visible(message['name'])}", style="not bold")
    if message.get("tool_call_id"):
        head.append(f"  result of {visible(message['tool_call_id'])}", style="not bold")
    metadata = message.get("metadata")
    if isinstance(metadata, dict) and metadata.get("state") == "interrupted":
        head.append("  (interrupted)", style="red")
    head.append(f"  {_time(message.get('created_at'))}", style="dim not bold")
    yield head
    for line in _body(message.get("content"), full=full):
        yield Padding(Text(line), (0, 0, 0, 2))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        yield Padding(Text(_call(call, full=full), style="yellow"), (0, 0, 0, 2))
    if full:
        for line in _rest(message):
            yield Padding(Text(line, style="dim"), (0, 0, 0, 2))


def _body(content: Any, *, full: bool) -> Iterator[str]:
    if isinstance(content, str):
        yield visible_body(content).rstrip("\n")
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield visible_body(part["text"])
            else:
                yield _shortened(_inline(part), full=full)
    elif content is not None:
        yield _shortened(_inline(content), full=full)


def _call(call: Any, *, full: bool) -> str:
    named = call if isinstance(call, dict) else _NO_CALL
    function = named.get("function")
    if not isinstance(function, dict):
        return _shortened(f"calls {_inline(call)}", full=full)
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = _inline(arguments)
    text = f"calls {visible(function.get('name', '?'))}({visible(arguments)})"
    identity = f"  as {visible(named['id'])}" if named.get("id") else ""
    return _shortened(text, full=full) + identity


def _rest(message: Message) -> Iterator[str]:
    """Yield whatever else a message has: its id, its metadata, the keys that are the caller's."""
    for key, value in message.items():
        if key not in _SHOWN_APART or (key == "metadata" and value):
            yield f"{visible(key)}: {visible(value) if isinstance(value, str) else _inline(value)}"


def _inline(value: Any) -> str:
    return visible(json_text(value, indent=None))


def _shortened(text: str, *, full: bool) -> str:
    if full or len(text) <= _LONG:
        return text
    return f"{text[:_LONG]}… ({len(text):,} characters; --full shows them)"


def _time(stated: object) -> str:
    """Return a message's time in this machine's zone; what is no time is shown as it is."""
    if not isinstance(stated, str):
        return ""
    try:
        moment = datetime.fromisoformat(stated)
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return visible(stated)
