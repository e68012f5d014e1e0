"""`holdfast import` of PraisonAI's folders and databases: what was found, and what came of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.conflicts import require_new
from holdfast.cli.escaping import visible
from holdfast.cli.options import open_or_make_store, settings_of
from holdfast.cli.printing import plural, print_json, say
from holdfast.integrations.praisonai.details import IMPORTED
from holdfast.integrations.praisonai.gathering import brief, stored_id
from holdfast.integrations.praisonai.importing import (
    Failure,
    Outcome,
    Rescued,
    Source,
    bring_all,
    read,
)

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
    source = read(path)
    with open_or_make_store(settings) as store:
        if not skip_existing:
            hint = "--skip-existing imports the others"
            require_new(_foreign(store, source), settings.place, hint)
        outcomes, failures = bring_all(store, source)
    rescued = source.rescued({name for name, how in outcomes.items() if how == "imported"})
    if settings.as_json:
        print_json(_as_json(source, outcomes, rescued, failures))
    else:
        _tell(source, outcomes, rescued, settings.place)
        _tell_failures(failures)
    if failures or "changed" in outcomes.values():
        context.exit(1)


def _foreign(store: SessionStore, source: Source) -> list[str]:
    """Return the sessions that the store has, but from no import."""
    there = [name for name in map(stored_id, source.sessions) if store.session_exists(name)]
    return [name for name in there if IMPORTED not in store.get_session(name).metadata]


def _tell(source: Source, outcomes: dict[str, Outcome], rescued: Rescued, place: str) -> None:
    for note in source.notes:
        old = note.sessions and all(outcomes.get(name) == "unchanged" for name in note.sessions)
        say(f"{visible(note.file)}: {visible(note.told)}{'; imported before' if old else ''}")
    for name, outcome in outcomes.items():
        if outcome not in ("imported", "unchanged"):
            say(f"{visible(brief(name))} {_TOLD[outcome]}.")
    counts = Counter(outcomes.values())
    told = [plural(counts["imported"], "session")] if counts["imported"] else []
    if rescued.quarantined:
        told.append(f"{rescued.quarantined:,} quarantined recovered")
    if rescued.shared:
        told.append(f"{plural(len(rescued.shared), 'id')} that had shared one file")
    if counts["extended"]:
        told.append(f"new messages of {plural(counts['extended'], 'session')}")
    say(f"Imported into {place}: {', '.join(told) or 'nothing'}.")
    if counts["unchanged"]:
        were = "was" if counts["unchanged"] == 1 else "were"
        say(f"{plural(counts['unchanged'], 'session')} {were} there before, with nothing new.")


def _tell_failures(failures: list[Failure]) -> None:
    for one in failures:
        where = ", ".join(map(visible, one.files))
        what = "" if one.session is None else f"{visible(brief(one.session))} "
        say(f"{where}: {what}was not imported: {visible(one.reason)}")
    if failures:
        say("That kept nothing else back. Import the same again once it is mended.")


def _as_json(
    source: Source, outcomes: dict[str, Outcome], rescued: Rescued, failures: list[Failure]
) -> dict[str, object]:
    stored = {whole.session_id: stored_id(whole) for whole in source.sessions}
    names: dict[str, object] = {
        kind: [stored[name] for name, outcome in outcomes.items() if outcome == kind]
        for kind in ("imported", *_TOLD)
    }
    return {
        **names,
        "quarantined_recovered": rescued.quarantined,
        "shared_file": rescued.shared,
        "failed": [
            {"files": list(one.files), "session": one.session, "reason": one.reason}
            for one in failures
        ],
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
