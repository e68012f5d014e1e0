"""Checks of the arguments that every method takes: ids, names, limits, revisions."""

from __future__ import annotations

from datetime import timedelta

from holdfast.errors import InvalidArgument
from holdfast.model.session import Point
from holdfast.model.turn import TURN_PREFIX

MAX_ID_BYTES = 512
MAX_NUMBER = (1 << 62) - 1
"""Above every revision, and within what any store's integers hold."""


def check_id(value: object, name: str = "session_id") -> str:
    """Return `value` if it can name something: text of 1 to 512 bytes of UTF-8, used exactly."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a string, not {type(value).__name__}")
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                f"{name} holds a lone surrogate at position {error.start}",
                hint="decode the text properly before using it as an id",
            ) from error
    if not value:
        raise InvalidArgument(f"{name} is empty", hint="pass any other string")
    if size > MAX_ID_BYTES:
        raise InvalidArgument(
            f"{name} has {size} bytes, more than {MAX_ID_BYTES}",
            hint="use a hash of it, and keep the long form in the session's metadata",
        )
    if "\0" in value:
        raise InvalidArgument(f"{name} holds a NUL character at position {value.index(chr(0))}")
    return value


def check_optional_id(value: object, name: str) -> str | None:
    """Return `value` if it is `None` or can name something."""
    return None if value is None else check_id(value, name)


def check_title(value: object) -> str | None:
    """Return `value` if it is `None` or can be a session's title: text without a NUL character."""
    if value is not None and not isinstance(value, str):
        raise InvalidArgument(f"title must be text, not {type(value).__name__}")
    if value is not None and "\0" in value:
        raise InvalidArgument(f"title holds a NUL character at position {value.index(chr(0))}")
    return value


def check_count(value: object, name: str) -> int:
    """Return `value` if it is a whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgument(f"{name} must be a whole number of 0 or more, not {value!r}")
    if value > MAX_NUMBER:
        raise InvalidArgument(f"{name} is larger than any number here")
    return value


def check_limit(value: object, name: str) -> int:
    """Return `value` as a limit: a whole number of 0 or more, and a huge one is no limit."""
    if isinstance(value, int) and value > MAX_NUMBER:
        return MAX_NUMBER
    return check_count(value, name)


def check_optional_count(value: object, name: str) -> int | None:
    """Return `value` if it is `None` or a whole number of 0 or more."""
    return None if value is None else check_count(value, name)


def check_point(value: object, name: str) -> Point:
    """Return `value` if it can name a point of a session's past."""
    if isinstance(value, str):
        check_id(value, name)
        if reads_as_number(value):
            raise InvalidArgument(
                f"{name} is the text {value!r}", hint="a revision and -n are numbers: pass an int"
            )
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(
            f"{name} must be a revision, a label, a turn's id or -n, not {value!r}"
        )
    if abs(value) > MAX_NUMBER:
        raise InvalidArgument(f"{name} is larger than any number here")
    return value


def check_label(value: object) -> str:
    """Return `value` if it can name a revision: an id that is neither a number nor a turn's."""
    label = check_stored_label(value)
    if label.startswith(TURN_PREFIX):
        raise InvalidArgument(
            f"{label!r} looks like the id of a turn, and so names one",
            hint=f"choose a label that does not begin with {TURN_PREFIX!r}",
        )
    return label


def check_stored_label(value: object) -> str:
    """Return `value` if it may be a label somewhere: an id that nobody takes for a number."""
    label = check_id(value, "name")
    if reads_as_number(label):
        raise InvalidArgument(
            f"{label!r} is a number, and a label must not look like a revision",
            hint=f"put a letter in front of it, as in 'v{label.strip()}'",
        )
    return label


def check_age(value: object, name: str) -> timedelta | None:
    """Return `value` if it is `None` or a length of time."""
    if value is None:
        return None
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InvalidArgument(f"{name} must be a timedelta of 0 or more, not {value!r}")
    return value


def reads_as_number(text: str) -> bool:
    """Say whether Python, and so the command line, would take `text` for a whole number."""
    try:
        int(text)
    except ValueError:
        return False
    return True
