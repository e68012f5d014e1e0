"""A session's log as it grows, for people: messages, text as it is streamed, and marks between.

Streamed text is shown as it comes. The message that later takes its place is not shown again; only
what it says beyond the text is.
"""

from __future__ import annotations

import sys
from typing import Any, assert_never

from rich.padding import Padding
from rich.text import Text

from holdfast.cli.conversation import message_lines
from holdfast.cli.escaping import json_text, visible, visible_body
from holdfast.cli.printing import iso, plural, print_rich
from holdfast.cli.turns import Turns, turn_in_words
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

_INDENT = "  "
_TAB = "    "


def entry_values(entry: Entry) -> dict[str, Any]:
    """Return an entry for programs."""
    from msgspec import to_builtins

    facts = to_builtins(entry)
    return {
        "revision": entry.revision,
        "kind": entry.kind.value,
        **facts,
        "at": iso(entry.at),
    }


class Now:
    """Which entries show the conversation as it is: learn the whole log first, then ask.

    It is the current generation, without the streamed text that a message has taken the place of.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._reset = 0
        self._settled: dict[str | None, int] = {}

    def learn(self, entry: Entry) -> None:
        """Take the log's next entry."""
        self.revision = entry.revision
        if isinstance(entry, ResetEntry):
            self._reset = entry.revision
        if not isinstance(entry, DeltaEntry | UsageEntry | MetaEntry):
            self._settled[entry.turn] = entry.revision

    def shows(self, entry: Entry) -> bool:
        """Say whether an entry is part of it."""
        if isinstance(entry, DeltaEntry) and entry.revision < self._settled.get(entry.turn, 0):
            return False
        return entry.revision > self._reset and not isinstance(entry, MetaEntry)


class Transcript:
    """Prints entries, one after the other."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._streamed = _Streamed()
        self._shown: dict[str, int] = {}
        self._rewrite: ResetEntry | None = None
        self._new: list[Message] = []

    def know(self, entry: Entry) -> None:
        """Learn what an entry says of a turn, and print nothing of it."""
        self._turns.take(entry)

    def show(self, entry: Entry) -> None:
        """Print one entry."""
        match entry:
            case MessageEntry():
                self._messages(entry)
            case DeltaEntry():
                self._streamed.show(entry)
            case TurnEntry():
                self._turns.take(entry)
                self._mark(turn_in_words(self._turns.of[entry.turn], entry))
            case ResetEntry():
                self._rewrite, self._new = entry, []
                if entry.last_revision <= entry.revision:
                    self._tell_rewrite()
            case MetaEntry():
                self._mark(f"changed {visible(json_text(entry.changes, indent=None))}")
            case UsageEntry():
                self._turns.take(entry)
            case _:
                assert_never(entry)
        sys.stdout.flush()

    def end(self) -> None:
        """End the line that is being written."""
        self._streamed.pause()
        sys.stdout.flush()

    def _messages(self, entry: MessageEntry) -> None:
        if self._rewrite is not None:
            self._new += entry.messages
            if entry.revision >= self._rewrite.last_revision:
                self._tell_rewrite()
            return
        for message in entry.messages:
            self._is_new(message)
            if not self._streamed.ends_with(message, entry.turn):
                self._print(message)

    def _tell_rewrite(self) -> None:
        """Say what became of the history: messages that were shown before are only counted."""
        assert self._rewrite is not None
        changed = [message for message in self._new if self._is_new(message)]
        same = len(self._new) - len(changed)
        self._mark(
            f"{_REWRITES.get(self._rewrite.reason, 'history changed')}: "
            f"{plural(len(self._new), 'message')} now, {same:,} as before"
        )
        for message in changed:
            self._print(message)
        self._rewrite, self._new = None, []

    def _is_new(self, message: Message) -> bool:
        name, told = str(message.get("id")), hash(json_text(message, indent=None))
        new = self._shown.get(name) != told
        self._shown[name] = told
        return new

    def _print(self, message: Message) -> None:
        self._streamed.pause()
        print_rich("", *message_lines(message, full=False))

    def _mark(self, text: str) -> None:
        self._streamed.pause()
        print_rich("", Text(f"── {text}", style="dim"))


_REWRITES = {
    "replace": "history replaced",
    "rewrite": "history rewritten",
    "clear": "history cleared",
    "rewind": "history rewound",
    "compact": "history compacted",
}


class _Streamed:
    """The text of the model call that is being streamed, as far as it was shown."""

    def __init__(self) -> None:
        self._call: tuple[str, int, int] | None = None
        self._text = ""
        self._whole = True
        self._mid_line = False
        self._held = ""

    def show(self, entry: DeltaEntry) -> None:
        call = (entry.turn, entry.attempt, entry.call)
        if call != self._call:
            self.pause()
            self._call, self._text, self._whole = call, "", entry.offset == 0
        news = entry.text[max(0, len(self._text) - entry.offset) :] if self._whole else entry.text
        if not self._mid_line:
            goes_on = "goes on" if self._text else "streaming"
            head = Text("assistant", style="bold cyan")
            print_rich("", head.append(f"  ({goes_on})", style="dim not bold"))
            sys.stdout.write(_INDENT if self._whole or self._text else f"{_INDENT}…")
        self._mid_line = True
        self._text += news
        self._write(news)

    def ends_with(self, message: Message, turn: str | None) -> bool:
        """Say whether a message says what was just streamed; show what it says beyond that."""
        call, shown, whole = self._call, self._text, self._whole
        if call is None or call[0] != turn or message.get("role") != "assistant":
            return False
        said = message.get("content")
        seen = whole and isinstance(said, str) and said.startswith(shown)
        if isinstance(said, str) and seen and said != shown:
            seen = self._mid_line
            self._write(said[len(shown) :] if seen else "")
        self.pause()
        self._call, self._text, self._whole = None, "", True
        if not seen:
            return False
        # The head was shown; its lines are what is not text: the calls, and that it was cut off.
        about = message_lines({**message, "content": None}, full=False)
        lines = [line for line in about if isinstance(line, Padding)]
        state = message.get("metadata")
        if isinstance(state, dict) and state.get("state") == "interrupted":
            print_rich(Text(f"{_INDENT}(interrupted)", style="red"))
        if lines:
            print_rich(*lines)
        return True

    def pause(self) -> None:
        """End the line, since something else comes."""
        if self._mid_line:
            if self._held:
                sys.stdout.write(visible(self._held))
            self._held = ""
            sys.stdout.write("\n")
        self._mid_line = False

    def _write(self, text: str) -> None:
        text = self._held + text
        # A carriage return may be the first half of a line's end, whose other half is on its way.
        self._held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r") if self._held else text
        shown = visible_body(text).replace("\t", _TAB)  # it would depend on what stood before
        sys.stdout.write(shown.replace("\n", f"\n{_INDENT}"))
