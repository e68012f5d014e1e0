"""`History`: a list of provider-ready messages that remembers which revision it was read at."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_not
from typing import Any, SupportsIndex, overload

from msgspec import Struct
from msgspec.structs import replace

from holdfast.model.message import Message
from holdfast.rules import providers


class Origin(Struct, frozen=True):
    """Where a history was read: the session, the revision, and the payloads as they were.

    `source` is the store's identity, the tenant and the session's id. `payloads` are the stored
    bytes: what the history was, whatever a caller does to its dicts. A history was read `repaired`
    or not; a `pinned` one with `at=`, so it is no base to save on; a `partial` one with a limit; a
    `spent` one was saved, but what became of it is not known here.
    """

    source: tuple[str, str, str]
    revision: int
    payloads: tuple[bytes, ...]
    repaired: bool = True
    pinned: bool = False
    partial: bool = False
    spent: bool = False


class History(list[Message]):
    """The messages of a session, oldest first, ready to send to a model provider.

    It is a list: append, slice and change it. Slices, `+` and `copy()` remember where they come
    from, as it does; `list(history)` and comprehensions do not. Hand it to `set_chat_history`, and
    messages that others added in the meantime are kept.
    """

    __slots__ = ("_origin",)

    def __init__(self, messages: Iterable[Message] = (), origin: Origin | None = None) -> None:
        super().__init__(messages)
        self._origin = origin

    @property
    def revision(self) -> int:
        """The history revision at which this was read; 0 for an unknown session."""
        return 0 if self._origin is None else self._origin.revision

    @property
    def origin(self) -> Origin | None:
        """Where this was read; `None` for a history that no store gave."""
        return self._origin

    def settle(self, planned: list[Message], stored: History) -> None:
        """Become what was stored: called once a save of `planned` is durable.

        What the caller appended during the save stays behind it. A list that was changed otherwise
        belongs to no revision any more, and is spent.
        """
        if len(self) < len(planned) or any(map(is_not, self, planned)):
            self.spend()
            return
        self[:] = [*stored, *self[len(planned) :]]
        self._origin = stored._origin

    def spend(self) -> None:
        """Say that this was saved and cannot be saved again before it is read anew."""
        if self._origin is not None:
            self._origin = replace(self._origin, spent=True)

    def for_openai(self) -> list[Message]:
        """Return the messages as OpenAI's chat completions take them: plain dicts of this list."""
        return [dict(message) for message in self]

    def for_anthropic(self) -> providers.AnthropicMessages:
        """Return the system text and the messages as Anthropic's messages API takes them."""
        return providers.to_anthropic(self)

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Message: ...
    @overload
    def __getitem__(self, index: slice, /) -> History: ...
    def __getitem__(self, index: Any, /) -> Any:
        found = super().__getitem__(index)
        return History(found, self._origin) if isinstance(index, slice) else found

    def __add__(self, other: list[Any], /) -> History:  # type: ignore[override] # not for other items
        return History([*self, *other], self._origin)

    def __radd__(self, other: list[Message], /) -> History:
        return History([*other, *self], self._origin)

    def copy(self) -> History:
        """Return a shallow copy that remembers the same revision."""
        return History(self, self._origin)

    __copy__ = copy
