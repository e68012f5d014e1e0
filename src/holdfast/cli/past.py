"""`holdfast session fork|rewind|label`: what a conversation was, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from holdfast.cli.escaping import visible
from holdfast.cli.options import (
    AT_HELP,
    confirm,
    global_options,
    open_store,
    point,
    settings_of,
)
from holdfast.cli.printing import described, plural, print_json, say

if TYPE_CHECKING:
    from holdfast.model.session import Point
    from holdfast.store.sync_store import SessionStore


@click.command()
@click.argument("session_id", metavar="ID")
@click.argument("new_id", metavar="[NEW_ID]", required=False)
@click.option("--at", type=point, metavar="POINT", help=AT_HELP)
@global_options
@click.pass_context
def fork(context: click.Context, session_id: str, new_id: str | None, at: Point | None) -> None:
    """Begin a session with the history of another one.

    Without NEW_ID it gets an id that nobody has.

    Example: holdfast session fork user-42 what-if --at -1
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        info = store.fork_session(session_id, new_id, at=at)
    if settings.as_json:
        print_json(described(info))
        return
    held = plural(info.message_count, "message")
    say(f"Forked {visible(session_id)} into {visible(info.id)}: {held}.")


# What begins with a dash may be -N.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("session_id", metavar="ID")
@click.argument("to", metavar="TO", type=point)
@click.option("--yes", is_flag=True, help="Do not ask.")
@global_options
@click.pass_context
def rewind(context: click.Context, session_id: str, to: Point, *, yes: bool) -> None:
    """Make a conversation what it was.

    TO is a revision, a label, a turn's id, or -N turns back (without turns: user messages). Shows
    how many messages will leave, and asks unless --yes is given. They stay readable with
    session show --at.

    Example: holdfast session rewind user-42 -1 --yes
    """
    settings = settings_of(context)
    name = visible(session_id)
    with open_store(settings) as store:
        before = store.get_session(session_id).revision
        leaving, left = _difference(store, session_id, to)
        if not settings.as_json:
            say(
                f"In {settings.place}, {plural(leaving, 'message')} will leave the history of "
                f"{name}, which then has {left:,}."
            )
        if not yes:
            confirm(context, f"Rewind {name} to {visible(to)}?", "rewind", "rewound")
        commit = store.rewind_session(session_id, to)
        info = store.get_session(session_id)
    if settings.as_json:
        print_json({"removed": commit.removed, "before": before, **described(info)})
        return
    say(
        f"Rewound {name}: {plural(commit.removed, 'message')} left, "
        f"and can be read with --at {before}."
    )


@click.command()
@click.argument("session_id", metavar="ID")
@click.argument("name")
@click.option("--at", type=point, metavar="POINT", help=AT_HELP)
@global_options
@click.pass_context
def label(context: click.Context, session_id: str, name: str, at: Point | None) -> None:
    """Name what a conversation is now.

    The name can stand wherever a revision can. Given again, it moves.

    Example: holdfast session label user-42 before-the-menu
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        store.label(session_id, name, at=at)
        info = store.get_session(session_id)
    if settings.as_json:
        print_json(described(info))
        return
    named = f"revision {info.labels[name]}"
    say(f"Session {visible(info.id)}: {visible(name)} is now the name of {named}.")


def _difference(store: SessionStore, session_id: str, to: Point) -> tuple[int, int]:
    """Return how many messages a rewind takes out of a history, and how many it leaves there."""
    now, then = (
        Counter(str(message.get("id")) for message in messages)
        for messages in (store.get_messages(session_id), store.get_messages(session_id, at=to))
    )
    return (now - then).total(), then.total()
