"""`holdfast session`: look at conversations, rename them, delete them.

`past` and `following` have more of its commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.escaping import visible
from holdfast.cli.options import (
    AT_HELP,
    Settings,
    confirm,
    erasing,
    global_options,
    open_store,
    point,
    settings_of,
)
from holdfast.cli.printing import (
    Column,
    age,
    described,
    plural,
    print_json,
    print_rich,
    say,
    table,
)
from holdfast.cli.program import FAILED, CommandGroup, show_help_alone
from holdfast.errors import SessionNotFound
from holdfast.model.usage import TurnStatus

if TYPE_CHECKING:
    from holdfast.model.session import Point, SessionInfo
    from holdfast.store.sync_store import SessionStore

_COLUMNS = (
    Column("id", style="cyan", whole=True),
    Column("title", cut=True),
    Column("user", cut=True),
    Column("agent", cut=True),
    Column("messages", right=True, whole=True),
    Column("updated", right=True, whole=True),
)


@click.group(cls=CommandGroup)
@global_options
@click.pass_context
def session(context: click.Context) -> None:
    """Look at sessions, search them, change them, delete them.

    Example: holdfast session show user-42
    """
    show_help_alone(context)


@session.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--cursor", metavar="TEXT", help="Go on where a page ended.")
@click.option("--user", metavar="ID", help="Only this user's.")
@click.option("--agent", metavar="NAME", help="Only this agent's.")
@global_options
@click.pass_context
def list_sessions(
    context: click.Context, limit: int, cursor: str | None, user: str | None, agent: str | None
) -> None:
    """List sessions, the one changed last first.

    With --json, the status of a session says "running" also of a turn whose worker died, until
    somebody closes it: lease_left_s is then 0 or below. Where no turn runs it is null.

    Example: holdfast session list --user alice --limit 10
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        page = store.list_sessions(limit, cursor=cursor, user_id=user, agent_name=agent)
        if settings.as_json:
            sessions = _with_leases(page, store)
            place = {"store": store.location, "tenant": store.tenant}
            print_json({**place, "sessions": sessions, "next_cursor": page.next_cursor})
            return
    if not page:
        narrowed = " that match" if user or agent or cursor else ""
        say(f"No sessions{narrowed} in {settings.place}.")
        return
    rows = [
        (s.id, s.title, s.user_id, s.agent_name, f"{s.message_count:,}", age(s.updated_at))
        for s in page
    ]
    print_rich(table(_COLUMNS, rows))
    if page.next_cursor:
        say(f"\nThere are more: add --cursor {page.next_cursor}")


def _with_leases(page: list[SessionInfo], store: SessionStore) -> list[dict[str, Any]]:
    from holdfast.store.leases import leases

    found = leases(store) if any(info.status == TurnStatus.RUNNING for info in page) else {}
    left = {name: lease.left_s for name, lease in found.items()}
    return [{**described(info), "lease_left_s": left.get(info.id)} for info in page]


@session.command()
@click.argument("session_id", metavar="ID")
@click.option("--at", type=point, metavar="POINT", help=AT_HELP)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the last N of them.")
@click.option("--full", is_flag=True, help="With ids, metadata and all of long values.")
@click.option("--turns", is_flag=True, help="Its turns instead of its messages.")
@global_options
@click.pass_context
def show(
    context: click.Context,
    session_id: str,
    at: Point | None,
    limit: int | None,
    *,
    full: bool,
    turns: bool,
) -> None:
    """Show a conversation, or how its turns went.

    Of a turn whose worker died, and which nobody has closed since, --turns says "lease over". With
    --json its status is "running", as in the log, and lease_left_s is 0 or below: the seconds that
    are left of its lease. Of a turn that does not run it is null.

    Example: holdfast session show user-42 --limit 20
    """
    from holdfast.cli.conversation import heading, message_lines

    settings = settings_of(context)
    if turns:
        if at is not None or full:
            raise click.UsageError("--turns goes with neither --at nor --full", context)
        _show_turns(settings, session_id, limit)
        return
    with open_store(settings) as store:
        info = store.get_session(session_id)
        messages = store.get_messages(session_id, limit, at=at)
    if settings.as_json:
        print_json(messages)
        return
    print_rich(*heading(info, full=full))
    for message in messages:
        print_rich("", *message_lines(message, full=full))
    if not messages:
        then = "" if at is None else f" at {visible(at)}"
        say(f"\nSession {visible(session_id)} has no messages{then} in {settings.place}.")


def _show_turns(settings: Settings, session_id: str, limit: int | None) -> None:
    from holdfast.cli.slices import log
    from holdfast.cli.turns import Turns, turn_lines, turn_values
    from holdfast.store.leases import lease_of

    with open_store(settings) as store:
        turns = Turns(log(store, session_id))
        turns.look_at(lease_of(store, session_id))
    found = list(turns.of.values())
    found = found if limit is None else found[-limit:]
    if settings.as_json:
        print_json([turn_values(turn) for turn in found])
    elif found:
        print_rich(*turn_lines(found))
    else:
        say(f"Session {visible(session_id)} has no turns in {settings.place}.")


@session.command()
@click.argument("session_id", metavar="ID")
@click.argument("title")
@global_options
@click.pass_context
def rename(context: click.Context, session_id: str, title: str) -> None:
    """Give a session another title; an empty one takes it away.

    Example: holdfast session rename user-42 "Trip to Lisbon"
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        info = store.rename_session(session_id, title or None)
    if settings.as_json:
        print_json(described(info))
    elif info.title:
        say(f"Session {visible(info.id)} is now called {visible(info.title)}.")
    else:
        say(f"Session {visible(info.id)} has no title now.")


@session.command()
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@global_options
@click.pass_context
def delete(context: click.Context, session_ids: tuple[str, ...], *, yes: bool) -> None:
    """Delete sessions and all they hold, for good.

    Shows what will go, and asks unless --yes is given. Says whether the bytes are erased already.

    Example: holdfast session delete user-42 --yes
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        wanted = list(dict.fromkeys(session_ids))
        going = [info for info in (_found(store, name) for name in wanted) if info is not None]
        if going and not settings.as_json:
            _announce(going, settings.place)
        if going and not yes:
            question = f"Delete {plural(len(going), 'session')} for good?"
            confirm(context, question, "delete", "deleted")
        # What was not shown above stays, even if somebody has created it since.
        shown = {info.id: store.delete_session(info.id).erasure for info in going}
    erasures = [(name, shown.get(name, "none")) for name in wanted]
    if settings.as_json:
        outcomes = [{"id": name, "existed": e != "none", "erasure": e} for name, e in erasures]
        print_json({"deleted": outcomes})
    else:
        for name, erasure in erasures:
            say(_told(name, erasure, settings))
    if any(erasure == "none" for _, erasure in erasures):
        context.exit(FAILED)


def _found(store: SessionStore, session_id: str) -> SessionInfo | None:
    try:
        return store.get_session(session_id)
    except SessionNotFound:
        return None


def _announce(going: list[SessionInfo], place: str) -> None:
    say(f"From {place}, this will go:")
    for info in going:
        title = f" “{visible(info.title)}”" if info.title else ""
        about = f"{plural(info.message_count, 'message')}, changed {age(info.updated_at)}"
        say(f"  {visible(info.id)}{title} ({about})")


def _told(session_id: str, erasure: str, settings: Settings) -> str:
    name = visible(session_id)
    if erasure == "done":
        return f"Deleted {name}; its bytes are erased."
    if erasure == "pending":
        return f"Deleted {name}; {erasing(settings)}."
    return f"There is no session {name} in {settings.place}."
