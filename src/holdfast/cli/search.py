"""`holdfast session search`: messages that hold some words, with the words shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.escaping import visible
from holdfast.cli.options import global_options, open_store, settings_of
from holdfast.cli.printing import age, iso, plural, print_json, print_rich, say

if TYPE_CHECKING:
    from rich.text import Text

    from holdfast.model.search import SearchHit

_MATCH = "bold yellow"


@click.command()
@click.argument("query")
@click.option("--user", metavar="ID", help="Only this user's sessions.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@global_options
@click.pass_context
def search(context: click.Context, query: str, user: str | None, limit: int) -> None:
    """Find messages by their words, the best first.

    All words must be there. "Words in quotes" stand next to each other, and begin* finds what
    begins so. The search index is brought up to date first.

    Example: holdfast session search "lisbon rain*" --user alice
    """
    settings = settings_of(context)
    with open_store(settings) as store:
        hits = store.search(query, user_id=user, limit=limit)
        if settings.as_json:
            place = {"store": store.location, "tenant": store.tenant}
            print_json({**place, "hits": [_described(hit) for hit in hits]})
            return
    if not hits:
        whose = f"no message of {visible(user)}'s" if user else "no message"
        say(f"There is {whose} that fits in {settings.place}.")
        return
    for number, hit in enumerate(hits):
        print_rich(*([""] if number else []), *_drawn(hit))
    if len(hits) == limit:
        say(f"\nThese are the best {plural(limit, 'hit')}; --limit shows more.")


def _drawn(hit: SearchHit) -> tuple[Any, ...]:
    from rich.padding import Padding
    from rich.text import Text

    head = Text(visible(hit.session_id), style="cyan")
    about = f"{visible(hit.role)} · {age(hit.at)} · revision {hit.revision}, message {hit.index}"
    head.append(f"  {about}", style="dim")
    return head, Padding(_marked(hit), (0, 0, 0, 2))


def _marked(hit: SearchHit) -> Text:
    """Return the snippet on one line, its matches in another style."""
    from rich.text import Text

    snippet = re.sub(r"\s", " ", hit.snippet)  # one for one: the places stay right
    shown, done = Text(), 0
    for start, end in hit.matches:
        shown.append(visible(snippet[done:start]))
        shown.append(visible(snippet[start:end]), style=_MATCH)
        done = end
    return shown.append(visible(snippet[done:]))


def _described(hit: SearchHit) -> dict[str, Any]:
    return {
        "session_id": hit.session_id,
        "revision": hit.revision,
        "index": hit.index,
        "role": hit.role,
        "at": iso(hit.at),
        "snippet": hit.snippet,
        "matches": hit.matches,
    }
