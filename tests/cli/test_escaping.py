"""Stored text reaches the terminal as text only."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import holdfast
from holdfast import SessionInfo
from holdfast.cli import conversation, doctor
from holdfast.cli.escaping import json_text, visible, visible_body
from holdfast.cli.printing import Column, facts, print_line, print_rich, table
from holdfast.cli.transcript import Transcript, entry_values
from holdfast.cli.turns import turn_lines
from holdfast.model.entry import (
    DeltaEntry,
    MessageEntry,
    MetaEntry,
    ResetEntry,
    TurnEntry,
    UsageEntry,
)
from holdfast.model.usage import TurnStatus, Usage
from holdfast.store.diagnosis import Finding
from tests.cli.conftest import Run

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
STYLING = re.compile(r"\x1b\[[0-9;]*m")
NASTY = (
    "\x1b[2J\x1b]8;;http://evil\x07link\x1b]8;;\x07 \x9b31m\x7f\r over\x08 "
    "\u202ereversed\u2066 [red]markup[/red] [link=http://evil]x[/link] :smile:"
)

texts = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\x1b[]8;m\x07\x08\t\r\n\x7f\x9b\x85\u2028\u202e\u2066\ud800\\x"),
    ),
    max_size=30,
)


def printed(draw: Callable[[], None], *, colours: bool = False) -> str:
    """What `draw` prints, as a pipe or, with colours, a terminal would get it."""
    out = io.StringIO()
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color"} if colours else {}
    with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, environment):
        draw()
    return out.getvalue()


def everything(text: str) -> None:
    """Print `text` at every place where stored text is printed."""
    now = datetime.now(UTC)
    info = SessionInfo(text, text, text, text, now, now, 1, 1, "idle", {text: text}, {text: 1})
    call = {"id": text, "function": {"name": text, "arguments": text}}
    part = {"type": text, "image_url": text}
    for content in (text, [{"type": "text", "text": text}, part, text], {text: text}):
        message = {
            "role": text,
            "name": text,
            "content": content,
            "tool_calls": [call, text],
            "tool_call_id": text,
            "created_at": text,
            "metadata": {text: [text]},
            text: text,
        }
        print_rich(*conversation.message_lines(message, full=True))
    print_rich(*conversation.heading(info, full=True))
    follow_everything(text)
    print_rich(table([Column("a"), Column("b", cut=True), Column("c", right=True)], [[text] * 3]))
    print_rich(facts([("a", text)]))
    print_rich(doctor._drawn([Finding("store", "ok", text, text)]))


def follow_everything(text: str) -> None:
    """Print `text` at every place where a follower prints it, streamed in two pieces too."""
    now, half = datetime.now(UTC), len(text) // 2
    message = {"role": "assistant", "content": f"{text}.", "tool_calls": [{"id": text}]}
    shown = Transcript()
    for entry in (
        MetaEntry(1, now, {text: text}),
        TurnEntry(2, now, text, 1, TurnStatus.RUNNING, worker=text),
        DeltaEntry(3, now, text, 1, 0, 0, text[:half]),
        DeltaEntry(4, now, text, 1, 0, half, text[half:]),
        MessageEntry(5, now, (message,), text),
        DeltaEntry(6, now, text, 1, 1, 0, text),
        UsageEntry(7, now, text, 1, Usage(call=text, model=text)),
        TurnEntry(8, now, text, 1, TurnStatus.FAILED, reason=text, error=text),
        ResetEntry(9, now, text, None, 10, 1),
        MessageEntry(10, now, ({"role": "user", "content": text, "id": text},)),
    ):
        shown.show(entry)
        print_line(json_text(entry_values(entry), indent=None))
    shown.end()
    print_rich(*turn_lines(shown._turns.of.values()))


@settings(max_examples=60, deadline=None)
@given(texts)
@example(NASTY)
def test_no_text_prints_a_control_character(text: str) -> None:
    """Whatever a store holds, what is printed has no control character but newlines."""
    assert CONTROLS.search(printed(lambda: everything(text))) is None


@settings(max_examples=40, deadline=None)
@given(texts)
@example(NASTY)
def test_on_a_terminal_only_colours_are_added(text: str) -> None:
    """On a terminal the only control sequences are our own colours."""
    shown = printed(lambda: everything(text), colours=True)
    assert "\x1b[1m" in shown
    assert CONTROLS.search(STYLING.sub("", shown)) is None


@given(texts)
@example(NASTY)
def test_json_has_no_control_character_and_loses_none(text: str) -> None:
    """JSON escapes what a terminal would obey, and decodes to the very same text."""
    document = json_text({text: [text]})
    assert CONTROLS.search(document) is None
    assert json.loads(document) == {text: [text]}


def test_escapes_are_what_one_would_type() -> None:
    """A control character is seen as its escape; other scripts and emoji stay as they are."""
    assert visible("a\x1b[31m\n\x9b\u202e\ud800") == r"a\x1b[31m\n\x9b\u202e\ud800"
    assert visible_body("a\r\nb\tc\rd") == "a\nb\tc\\x0dd"
    assert visible("naïve 漢字 👩‍🚀") == "naïve 漢字 👩‍🚀"
    assert json_text(["naïve 漢字"], indent=None) == '["naïve 漢字"]'


@pytest.mark.parametrize(
    "line",
    [
        ["session", "list"],
        ["session", "list", "--json"],
        ["session", "show", NASTY, "--full"],
        ["session", "show", NASTY, "--json"],
        ["session", "show", NASTY, "--turns"],
        ["session", "show", NASTY, "--turns", "--json"],
        ["session", "follow", f"{NASTY}?"],
        ["session", "interrupt", NASTY],
        ["session", "interrupt", f"{NASTY}?"],
        ["session", "show", f"{NASTY}?"],
        ["session", "show", f"{NASTY}?", "--json"],
        ["session", "rename", NASTY, NASTY],
        ["session", "delete", NASTY, "--yes"],
        ["session", "list", "--user", NASTY],
        ["session", "show", NASTY, "--at", NASTY],
        ["session", "show", NASTY, "--at", f"{NASTY}?"],
        ["session", "fork", NASTY, f"{NASTY}!"],
        ["session", "fork", NASTY, NASTY],
        ["session", "rewind", NASTY, NASTY, "--yes"],
        ["session", "rewind", NASTY, NASTY],
        ["session", "label", NASTY, NASTY],
        ["session", "label", NASTY, "x", "--at", f"{NASTY}?"],
        ["store", "recover", "--tenant", NASTY],
        ["store", "purge", NASTY, "--yes"],
        ["store", "purge", "--older-than", NASTY],
        ["export", NASTY],
        ["export", f"{NASTY}?"],
        ["export", NASTY, "-o", "/dev/null/x"],
        ["import", "/dev/null", "--as", NASTY],
        ["store", "stats", NASTY],
        ["store", "verify", NASTY, "--json"],
        ["session", NASTY],
        ["session", "list", "--limit", NASTY],
        ["session", "list", "--cursor", NASTY],
        ["session", "list", f"--{NASTY}"],
        ["session", "list", "--tenant", NASTY],
        ["session", "list", "--store", NASTY],
        ["doctor", "--store", NASTY],
    ],
)
def test_commands_print_no_control_character(run: Run, tmp_path: Path, line: list[str]) -> None:
    """No command, error or confirmation passes a control character on."""
    place = str(tmp_path / "nasty.db")
    with holdfast.connect(place) as store:
        store.create_session(
            NASTY, title=NASTY, user_id=NASTY, agent_name=NASTY, metadata={NASTY: NASTY}
        )
        store.add_user_message(NASTY, NASTY, metadata={NASTY: NASTY})
        store.label(NASTY, NASTY)
        with contextlib.suppress(ValueError), store.turn(NASTY, NASTY, key=NASTY) as turn:
            turn.write(NASTY)
            raise ValueError(NASTY)
    if "--store" not in line:
        line = ["--store", place, *line]
    result = run(*line)
    assert result.output
    assert CONTROLS.search(result.output) is None


def test_markup_is_literal(run: Run, tmp_path: Path) -> None:
    """What looks like rich's markup, a link or an emoji's name is shown as it was written."""
    place = str(tmp_path / "markup.db")
    marked = "[red]x[/red] [link=http://y]z[/link] :smile: [/]"
    with holdfast.connect(place) as store:
        store.create_session(marked, title=marked)
        store.add_user_message(marked, marked)
    assert run("session", "list", "--store", place).stdout.count(marked) == 2
    shown = run("session", "show", marked, "--store", place).stdout
    assert f"\n  {marked}\n" in shown
