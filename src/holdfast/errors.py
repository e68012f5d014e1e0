"""Every error that Holdfast raises, and what to do about each.

A caller matches on the class, or on `code`, which is stable between releases; a person reads the
message (what happened, to which thing) and the `hint` (what to do now). Results are values or one
of these: nothing in Holdfast returns `False` to say that it failed.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HoldfastError(Exception):
    """The root of everything that Holdfast raises on purpose."""

    default_code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def twin(self) -> HoldfastError:
        """Return an equal error, for another caller to raise."""
        twin = _restore(type(self), self.args, self.__dict__)
        twin.__cause__ = self.__cause__
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling drops keyword arguments, and errors cross processes.
        return (_restore, (type(self), self.args, dict(self.__dict__)))


class InvalidArgument(HoldfastError, ValueError):
    """An argument can never be right: an empty id, a negative limit, a revision of another kind."""

    default_code = "invalid_argument"


class InvalidMessage(InvalidArgument):
    """A message or a history cannot be stored as it is; `path` names the value at fault."""

    default_code = "invalid_message"

    def __init__(
        self, message: str, *, path: str = "", hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint, code=code)
        self.path = path


class InvalidExport(InvalidArgument):
    """A text is no export of a session, or not a whole one; `line` names the place."""

    default_code = "invalid_export"
    default_hint = "nothing was written; take the text as it was exported"

    def __init__(
        self, message: str, *, line: int, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(f"line {line}: {message}", hint=hint, code=code)
        self.line = line


class Conflict(HoldfastError):
    """The session moved on, or holds something else, than the write said; nothing was written."""

    default_code = "conflict"
    default_hint = "read the history again and repeat, or use edit_history, which does so"

    def __init__(
        self,
        message: str,
        *,
        expected: int | None = None,
        actual: int | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.expected = expected
        self.actual = actual


class SessionNotFound(HoldfastError):
    """There is no such session, or it was deleted since it was read."""

    default_code = "session_not_found"
    default_hint = "list_sessions() shows what there is; adding a message creates a session"


class SessionBusy(HoldfastError):
    """Another turn is running, or waits for an answer; `turn` and `worker` name it."""

    default_code = "session_busy"
    default_hint = 'wait with on_busy="wait", or stop the other turn with on_busy="interrupt"'

    def __init__(
        self,
        message: str,
        *,
        turn: str = "",
        worker: str = "",
        waiting: bool = False,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.turn = turn
        self.worker = worker
        self.waiting = waiting


class LeaseLost(HoldfastError):
    """Another worker took this turn over; this one can write nothing more into it."""

    default_code = "lease_lost"
    default_hint = "stop working on this turn: its text up to the last flush is kept"


class Purged(HoldfastError):
    """The revision asked for lies below the session's floor: it was purged."""

    default_code = "purged"
    default_hint = "read the current history, or a later revision"


class WrongUser(HoldfastError):
    """The session belongs to another user."""

    default_code = "wrong_user"
    default_hint = "use the session of this user, or a session without an owner"


class CorruptEntry(HoldfastError):
    """A stored entry is not what was written; `revision` names it."""

    default_code = "corrupt_entry"
    default_hint = (
        "holdfast store verify shows what is damaged; restore the store from a backup. "
        "Adding messages and all other sessions still work"
    )

    def __init__(
        self,
        message: str,
        *,
        session_id: str = "",
        revision: int = 0,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.session_id = session_id
        self.revision = revision


class Unavailable(HoldfastError):
    """The store cannot be used now; what the call was to write was certainly not written."""

    default_code = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retryable = retryable


class OutcomeUnknown(HoldfastError):
    """The write was sent and no answer came: it may or may not have happened."""

    default_code = "outcome_unknown"
    default_hint = "repeat the call with the same key=: then it happens once"


class NotSupported(HoldfastError):
    """This store, this version or this platform cannot do what was asked."""

    default_code = "not_supported"


class ConfigError(HoldfastError):
    """The store's address or a setting is wrong."""

    default_code = "config"


def _restore(
    kind: type[HoldfastError], args: tuple[Any, ...], state: dict[str, Any]
) -> HoldfastError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
