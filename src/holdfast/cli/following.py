"""`holdfast session follow|interrupt` and `holdfast store recover`: turns while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.escaping import json_text, visible
from holdfast.cli.options import global_options, open_store, settings_of
from holdfast.cli.printing import plural, print_json, print_line, print_rich, say
from holdfast.cli.program import FAILED
from holdfast.cli.slices import log
from holdfast.errors import SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.model.entry import Entry
    from holdfast.model.session import SessionInfo
    from holdfast.store.sync_store import SessionStore


@click.command()
@click.argument("session_id", metavar="ID")
@click.option("--after", type=click.IntRange(0), metavar="REVISION", help="Only what came later.")
@global_options
@click.pass_context
def follow(context: click.Context, session_id: str, after: int | None) -> None:
    """Show a conversation while it goes on.

    First what it is now, then messages, streamed text and turns as they come, from any process.
    Ends with Ctrl-C, or when the session is deleted. With --json, each entry of the log is an
    object on a line of its own, from the first entry on.

    Example: holdfast session follow user-42
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        info = store.get_session(session_id)
        if after is not None:
            store.read_entries(session_id, after, 1)  # it is a revision of this session, or refused
        if settings.as_json:
            _follow(store, session_id, after or 0, _print_entry)
        else:
            _follow_in_words(store, info, after)
    say(f"Session {visible(session_id)} was deleted.")


def _follow_in_words(store: SessionStore, info: SessionInfo, after: int | None) -> None:
    from holdfast.cli.conversation import heading
    from holdfast.cli.transcript import Now, Transcript

    transcript, now = Transcript(), Now()
    print_rich(*heading(info, full=False))
    if after is None:
        for entry in log(store, info.id):
            now.learn(entry)
        for entry in log(store, info.id, now.revision):
            take = transcript.show if now.shows(entry) else transcript.know
            take(entry)
        after = now.revision or info.revision
    _follow(store, info.id, after, transcript.show, transcript.end)


def _follow(
    store: SessionStore,
    session_id: str,
    after: int,
    show: Callable[[Entry], None],
    end: Callable[[], None] = lambda: None,
) -> None:
    """Show what comes until the session is deleted."""
    try:
        for entry in store.follow(session_id, after):
            show(entry)
            after = entry.revision
    except SessionNotFound:
        end()
    except KeyboardInterrupt:
        end()
        say(f"Go on with --after {after}")
        raise


def _print_entry(entry: Entry) -> None:
    from holdfast.cli.transcript import entry_values

    print_line(json_text(entry_values(entry), indent=None))


@click.command()
@click.argument("session_id", metavar="ID")
@global_options
@click.pass_context
def interrupt(context: click.Context, session_id: str) -> None:
    """Ask the turn that runs in a session to stop.

    Its worker hears of it within a second, wherever it is; what it has shown is kept. Exits with 1
    if no turn runs.

    Example: holdfast session interrupt user-42
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        asked = store.interrupt(session_id)
    if settings.as_json:
        print_json({"id": session_id, "interrupted": asked})
    elif asked:
        say(f"Asked the turn that runs in {visible(session_id)} to stop.")
    else:
        say(f"No turn runs in session {visible(session_id)} in {settings.place}.")
    if not asked:
        context.exit(FAILED)


@click.command()
@global_options
@click.pass_context
def recover(context: click.Context) -> None:
    """Close the turns of workers that died.

    What they had shown is kept, as interrupted messages. Opening a turn does the same for its own
    session, so this is for those that nobody comes back to.

    Example: holdfast store recover
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        closed = store.recover()
        if settings.as_json:
            print_json({"store": store.location, "tenant": store.tenant, "recovered": closed})
            return
    if closed:
        print_line(f"Closed {plural(closed, 'turn')} of dead workers in {settings.place}.")
    else:
        say(f"No turns of dead workers in {settings.place}.")
