"""Readers beside a writer that replaces, rewrites and appends."""

from __future__ import annotations

import json

from tests.races.race import Race
from tests.races.worker import SESSION, STATES

READERS = 3


def _strange_states(race: Race, role: str) -> tuple[list[list[str]], int]:
    """Return the states that readers saw though the writer never had them, and how many it had."""
    begin = [f"begin {number}" for number in range(150)]
    race.store.set_chat_history(SESSION, [{"role": "user", "content": t} for t in begin])
    (writer,) = race.enter(role, count=120)
    readers = race.enter("read", processes=READERS)
    race.go()
    writer.finish()
    race.stop()
    for reader in readers:
        (line,) = reader.finish()
        assert int(line.split()[1]) > 20
    recorded = {json.dumps(begin), *(race.folder / STATES).read_text().splitlines()}
    seen = [
        line
        for reader in readers
        for line in (race.folder / f"seen-{reader.name}").read_text().splitlines()
    ]
    assert len(set(seen)) > 10
    return [json.loads(line) for line in set(seen) - recorded], len(recorded)


def test_planted_fault(race: Race) -> None:
    """The readers catch a writer that clears and then adds: they see an empty history."""
    strange, _ = _strange_states(race, "clear_and_add")
    assert [] in strange


def test_readers(race: Race) -> None:
    """Every history that is read is one that the writer committed, whole, and never empty."""
    strange, recorded = _strange_states(race, "replace")
    assert strange == []
    assert recorded > 100
