"""Checks of the arguments that every method takes: ids, names, limits, revisions."""

from __future__ import annotations

from holdfast.errors import InvalidArgument

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
