"""Says from a session's log alone whether its turns kept their promises.

One turn runs at a time; what it writes stands between its beginning and its end; its streamed text
has no gap, and becomes its message; a prompt `name:number` stands once, after that of the number
before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from holdfast.model.entry import (
    DeltaEntry,
    Entry,
    MessageEntry,
    MetaEntry,
    ResetEntry,
    TurnEntry,
    UsageEntry,
)
from holdfast.model.message import Message
from holdfast.model.usage import TurnStatus

CLOSED = (TurnStatus.COMPLETED, TurnStatus.INTERRUPTED, TurnStatus.FAILED)


def reply_to(prompt: str) -> list[str]:
    """Return the pieces of the answer that each worker of these tests gives."""
    return [f"{prompt} is", " what", " you", f" said, {prompt}."]


def judge(entries: Iterable[Entry]) -> list[str]:
    """Return what is wrong with a log in which no turn should be open any more."""
    judge = _Judge()
    for entry in entries:
        judge.see(entry)
    return judge.verdict()


def judge_replies(entries: Iterable[Entry]) -> list[str]:
    """Return which turns did not answer with what `reply_to` gives, or a beginning of it."""
    found: list[str] = []
    prompts: dict[str, str] = {}
    answered: set[str] = set()
    for entry in entries:
        if isinstance(entry, MessageEntry) and entry.turn is not None:
            for message in entry.messages:
                if message["role"] == "user":
                    prompts[entry.turn] = message["content"]
                    continue
                whole = "".join(reply_to(prompts.get(entry.turn, "?")))
                given = message["content"]
                if given == whole and not _is_cut_off(message):
                    answered.add(entry.turn)
                elif not (_is_cut_off(message) and whole.startswith(given)):
                    found.append(f"{entry.turn} answered {given!r} to {whole!r}")
        elif _is_completed(entry) and entry.turn not in answered:
            found.append(f"{entry.turn} was completed without its answer")
    return found


def completed(entries: Iterable[Entry]) -> int:
    """Count the turns that came to their end."""
    return sum(map(_is_completed, entries))


def _is_completed(entry: Entry) -> bool:
    return isinstance(entry, TurnEntry) and entry.status is TurnStatus.COMPLETED


def _is_cut_off(message: Message) -> bool:
    return (message.get("metadata") or {}).get("state") == "interrupted"


class _Judge:
    def __init__(self) -> None:
        self._faults: list[str] = []
        self._revision = 0
        self._reset_ends = 0
        self._open: tuple[str, int] | None = None
        self._attempts: dict[str, int] = {}
        self._prompted: set[str] = set()
        self._last_of: dict[str, int] = {}
        self._text = ""
        self._call = -1
        self._cut_off: str | None = None

    def see(self, entry: Entry) -> None:
        if entry.revision <= self._revision:
            self._fault(entry, "revisions do not rise")
        self._revision = entry.revision
        if isinstance(entry, TurnEntry):
            self._turn(entry)
        elif isinstance(entry, DeltaEntry):
            self._inside(entry, entry.turn, entry.attempt)
            self._delta(entry)
        elif isinstance(entry, MessageEntry):
            if entry.revision > self._reset_ends:  # else a rewrite carried it over
                self._message(entry)
        elif isinstance(entry, UsageEntry):
            self._inside(entry, entry.turn, entry.attempt)
        elif isinstance(entry, ResetEntry):
            self._reset_ends = entry.last_revision
        elif isinstance(entry, MetaEntry):
            pass
        else:
            assert_never(entry)

    def verdict(self) -> list[str]:
        if self._open is not None:
            self._faults.append(f"{self._open[0]} was never closed")
        silent = self._attempts.keys() - self._prompted
        self._faults += [f"{turn} has no prompt" for turn in sorted(silent)]
        return self._faults

    def _turn(self, entry: TurnEntry) -> None:
        if entry.status is TurnStatus.RUNNING:
            if self._open is not None:
                self._fault(entry, f"{entry.turn} began while {self._open[0]} was open")
            if entry.attempt != self._attempts.get(entry.turn, 0) + 1:
                self._fault(entry, f"{entry.turn} came to attempt {entry.attempt}")
            self._attempts[entry.turn] = entry.attempt
            self._open = entry.turn, entry.attempt
            self._text, self._call, self._cut_off = "", -1, None
            return
        self._inside(entry, entry.turn, entry.attempt)
        if entry.status in CLOSED:
            if self._text:
                self._fault(entry, f"{entry.turn} lost its text {self._text!r}")
            if entry.status is TurnStatus.COMPLETED and self._cut_off is not None:
                self._fault(entry, f"{entry.turn} was completed, and its answer cut off")
            self._open = None

    def _delta(self, entry: DeltaEntry) -> None:
        if entry.call < self._call or (entry.call > self._call and self._text):
            self._fault(entry, f"call {entry.call} came after {self._call}")
        self._call = entry.call
        if entry.offset != len(self._text):
            self._fault(entry, f"offset {entry.offset} after {len(self._text)} characters")
        self._text += entry.text

    def _message(self, entry: MessageEntry) -> None:
        for message in entry.messages:
            if message["role"] == "user":
                self._prompt(entry, message)
        if entry.turn is None:
            return
        self._inside(entry, entry.turn, None)
        for message in entry.messages:
            if message["role"] == "assistant":
                said = message["content"] or ""
                if not said.startswith(self._text):
                    self._fault(entry, f"{said!r} replaces {self._text!r}")
                self._text = ""
                self._cut_off = said if _is_cut_off(message) else None

    def _prompt(self, entry: MessageEntry, message: Message) -> None:
        if entry.turn is not None:
            if entry.turn in self._prompted:
                self._fault(entry, f"{entry.turn} was prompted twice")
            self._prompted.add(entry.turn)
        name, _, number = message["content"].rpartition(":")
        if name:
            last = self._last_of.get(name, -1)
            if int(number) != last + 1:
                self._fault(entry, f"prompt {name}:{number} after {last}")
            self._last_of[name] = max(last, int(number))

    def _inside(self, entry: Entry, turn: str, attempt: int | None) -> None:
        """Whatever a turn writes is between its beginning and its end."""
        if self._open is None or self._open[0] != turn or attempt not in (None, self._open[1]):
            self._fault(entry, f"{turn} writes while {self._open and self._open[0]} is open")

    def _fault(self, entry: Entry, what: str) -> None:
        self._faults.append(f"{entry.revision}: {what}")
