"""`holdfast chat`: a conversation with a model in the terminal, which is there again tomorrow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from holdfast.cli.escaping import visible
from holdfast.cli.options import Settings, global_options, settings_of
from holdfast.cli.printing import say
from holdfast.errors import InvalidArgument

if TYPE_CHECKING:
    from holdfast.store.sync_store import SessionStore

_PROMPT = "> "


@click.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.argument("prompt", metavar="[PROMPT]", required=False)
@click.option("-p", "--prompt", "asked", metavar="TEXT", help="The PROMPT, whatever else is given.")
@click.option("--model", metavar="NAME", help="Such as openai:gpt-4o-mini, or offline.")
@click.option("--base-url", metavar="URL", help="A server that speaks OpenAI's chat completions.")
@click.option("--system", metavar="TEXT", help="Instructions for the model.")
@global_options
@click.pass_context
def chat(
    context: click.Context,
    /,
    session_id: str | None,
    prompt: str | None,
    asked: str | None,
    **model: str | None,
) -> None:
    """Talk with a model; everything is kept.

    With a PROMPT there is one answer. Without, each line is a prompt, in a terminal or from a pipe;
    /help shows what else a line can be. Ctrl-C stops an answer and keeps what was said; Ctrl-D
    ends. Without SESSION a new one begins. Makes the store if there is none.

    A single argument is the SESSION. If it is several words, and no session has that id, it is the
    PROMPT; -p says so of any text.

    Exits with 1 if the one answer failed, with 130 if it was interrupted.

    Example: holdfast chat user-42 "What is my name?" --model offline
    """
    if prompt is not None and asked is not None:
        raise click.UsageError("the prompt is there twice: as PROMPT and with -p", context)
    if model["base_url"] is not None and model["model"] is None:
        raise click.UsageError("--base-url goes with --model: name what to ask there", context)
    prompt = asked if prompt is None else prompt
    if session_id == "":
        raise InvalidArgument("the session's id is empty", hint="leave it out to begin a new one")
    if prompt is not None and not prompt.strip():
        raise InvalidArgument("the prompt is empty", hint="leave it out to chat line by line")
    from holdfast.cli.talking import Talk

    settings = settings_of(context)
    with _store(settings) as store:
        if prompt is None and session_id is not None and _is_prompt(session_id, store):
            session_id, prompt = None, session_id
        talk = Talk(store, model, session_id, settings)
        if prompt is not None:
            code = talk.answer(prompt)
            if session_id is None:
                talk.name_session()
            context.exit(code)
        talk.greet()
        for line in _lines():
            if line.startswith("/"):
                if not talk.obey(line):
                    break
            elif line:
                talk.answer(line)


def _is_prompt(word: str, store: SessionStore) -> bool:
    """Say whether a single argument is what is asked, and not where: ids seldom hold blanks."""
    words = word.split()
    return len(words) > 1 and not store.session_exists(word)


def _store(settings: Settings) -> SessionStore:
    from holdfast.store.connect import connect

    store = connect(settings.url, tenant=settings.tenant)
    settings.place = visible(store.location)
    return store


def _lines() -> Iterator[str]:
    """Yield what is typed or piped in, line by line."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - for what it does to input()
    while True:
        try:
            line = input(_PROMPT) if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            # Often it was meant for an answer that had just ended.
            if not sys.stdin.isatty():
                raise
            say("\nCtrl-D ends the chat.")
            continue
        if not line and not sys.stdin.isatty():
            return
        yield line.strip()
