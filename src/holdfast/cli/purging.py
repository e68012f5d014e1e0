"""`holdfast store purge`: earlier generations, gone for good."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from holdfast.cli.escaping import visible
from holdfast.cli.options import (
    Settings,
    confirm,
    erasing,
    global_options,
    length_of_time,
    open_store,
    settings_of,
)
from holdfast.cli.printing import plural, print_json, say

if TYPE_CHECKING:
    from holdfast.model.commit import Purge
    from holdfast.store.sync_store import SessionStore


@click.command()
@click.argument("session_ids", metavar="[SESSION...]", nargs=-1)
@click.option(
    "--older-than",
    type=length_of_time,
    metavar="AGE",
    help="Only what ended so long ago: 30d, 12h.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@global_options
@click.pass_context
def purge(
    context: click.Context, session_ids: tuple[str, ...], older_than: timedelta | None, *, yes: bool
) -> None:
    """Destroy earlier histories, for good.

    Those before the current one, of each SESSION or of all. Shows what there is, and asks unless
    --yes is given. A SQLite file is rewritten, so that no byte of what went is left, which takes a
    while if it is large; PostgreSQL leaves the bytes to its vacuum.

    Example: holdfast store purge --older-than 30d --yes
    """
    settings = settings_of(context)
    named = list(dict.fromkeys(session_ids))
    with open_store(settings) as store:
        earlier = _earlier(store, named)
        if earlier and not settings.as_json:
            _announce(earlier, named, settings.place, dated=older_than is not None)
        if earlier and not yes:
            confirm(context, "Purge them for good?", "purge", "purged")
        purged = _purged(store, named, older_than)
        if settings.as_json:
            print_json({"store": store.location, "tenant": store.tenant, **asdict(purged)})
            return
    say(_told(purged, settings))


def _purged(store: SessionStore, named: list[str], older_than: timedelta | None) -> Purge:
    from holdfast.model.commit import Purge

    if not named:
        return store.purge(older_than=older_than)
    return sum((store.purge(name, older_than=older_than) for name in named), Purge())


def _earlier(store: SessionStore, named: list[str]) -> int:
    """Return how many generations there are before the current ones."""
    counts = [store.stats(name) for name in named] or [store.stats()]
    return sum(count.generations - count.sessions for count in counts)


def _announce(earlier: int, named: list[str], place: str, *, dated: bool) -> None:
    whose = f" of {', '.join(map(visible, named))}" if named else ""
    there = f"{plural(earlier, 'earlier generation')}{whose}"
    if dated:
        say(f"In {place} there are {there}; those that ended so long ago will go.")
    else:
        say(f"From {place}, this will go: {there}.")


def _told(purged: Purge, settings: Settings) -> str:
    if not purged.sessions:
        return f"Nothing was there to purge in {settings.place}."
    what = (
        f"Purged {plural(purged.generations, 'generation')} of "
        f"{plural(purged.sessions, 'session')}, {plural(purged.messages, 'message')}"
    )
    if purged.erasure == "done":
        return f"{what}; the bytes are erased."
    return f"{what}; {erasing(settings)}."
