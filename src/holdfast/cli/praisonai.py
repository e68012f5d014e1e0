"""`holdfast import` of PraisonAI's folders and databases: what was found, and what came of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.escaping import visible
from holdfast.cli.options import open_store, settings_of
from holdfast.cli.printing import plural, print_json, say
from holdfast.cli.transfer import require_new
from holdfast.integrations.praisonai.details import IMPORTED
from holdfast.integrations.praisonai.gathering import stored_id
from holdfast.integrations.praisonai.importing import Outcome, Source, bring, read

if TYPE_CHECKING:
    from holdfast.store.sync_store import SessionStore

_TOLD: dict[Outcome, str] = {
    "extended": "had new messages, which were added",
    "unchanged": "was imported before, and has nothing new",
    "changed": "was rewritten since it was imported, and was left alone; "
    "delete it here to import it anew",
    "foreign": "is in the store already, and not from an import: it was left alone",
}


def import_sessions(context: click.Context, path: Path, *, skip_existing: bool) -> None:
    """Bring PraisonAI's sessions into the store, and tell what was in each file."""
    settings = settings_of(context)
    with open_store(settings) as store:
        source = read(path)
        if not skip_existing:
            hint = "--skip-existing imports the others"
            require_new(_foreign(store, source), settings.place, hint)
        outcomes: dict[str, Outcome] = {}
        for whole in source.sessions:
            outcomes[stored_id(whole)] = bring(store, whole)
    if settings.as_json:
        print_json(_as_json(source, outcomes))
    else:
        _tell(source, outcomes, settings.place)
    if "changed" in outcomes.values():
        context.exit(1)


def _foreign(store: SessionStore, source: Source) -> list[str]:
    """Return the sessions that the store has, but from no import."""
    there = [name for name in map(stored_id, source.sessions) if store.session_exists(name)]
    return [name for name in there if IMPORTED not in store.get_session(name).metadata]


def _tell(source: Source, outcomes: dict[str, Outcome], place: str) -> None:
    for note in source.notes:
        say(f"{visible(note.file)}: {visible(note.told)}")
    for name, outcome in outcomes.items():
        if outcome not in ("imported", "unchanged"):
            say(f"{visible(name)} {_TOLD[outcome]}.")
    counts = Counter(outcomes.values())
    told = [plural(counts["imported"], "session")]
    if source.quarantined:
        told.append(f"{source.quarantined:,} quarantined recovered")
    if source.shared:
        told.append(f"{plural(len(source.shared), 'id')} that had shared one file")
    say(f"Imported into {place}: {', '.join(told)}.")
    if counts["unchanged"]:
        say(f"{plural(counts['unchanged'], 'session')} {_were(counts['unchanged'])} there before.")


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _as_json(source: Source, outcomes: dict[str, Outcome]) -> dict[str, object]:
    names: dict[str, object] = {
        kind: [name for name, outcome in outcomes.items() if outcome == kind]
        for kind in ("imported", *_TOLD)
    }
    return {
        **names,
        "quarantined_recovered": source.quarantined,
        "shared_file": source.shared,
        "files": [
            {
                "file": note.file,
                "kind": note.kind or None,
                "sessions": list(note.sessions),
                "messages": note.messages,
                "told": note.told,
            }
            for note in source.notes
        ],
    }
