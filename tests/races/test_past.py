"""Compacting, rewinding and purging while others write: nobody's message is lost by it."""

from __future__ import annotations

import pytest

from holdfast.model.entry import ResetEntry
from tests.races.race import Race
from tests.races.worker import SESSION

ADDS = 150
REWINDS = 25
FIRST = 100


def test_compacting_while_others_add(race: Race) -> None:
    """Two compactors cost three adders no message, and no summary stands twice."""
    race.store.add_message(SESSION, "user", "begin")
    adders = race.enter("add", processes=3, count=ADDS)
    compactors = race.enter("compact", processes=2)
    race.go()
    for adder in adders:
        adder.finish()
    race.stop()
    said = [line.split() for racer in compactors for line in racer.finish()]
    found = race.tally(adders)
    assert not found.harmed, found
    assert sum(int(count) for _, count, _ in said) > 10
    history = race.store.get_chat_history(SESSION)
    assert len(history) == 2 + 3 * ADDS
    assert [message["role"] for message in history[:2]] == ["system", "user"]
    assert race.store.verify().problems == []


def _rewind_while_others_add(race: Race, role: str, processes: int) -> tuple[int, int]:
    """Return how many messages should be left, and how many are."""
    begun = [{"role": "user", "content": f"begin:{number}"} for number in range(FIRST)]
    race.store.add_messages(SESSION, begun)
    adders = race.enter("add_at_leisure", processes=2, count=ADDS // 3)
    rewinders = race.enter(role, processes=processes, count=REWINDS)
    race.go()
    said = [line.split() for racer in rewinders for line in racer.finish()]
    for adder in adders:
        adder.finish()
    assert race.store.verify().problems == []
    assert [removed for _, removed in said] == [str(REWINDS)] * processes
    resets = [e for e in race.store.read_entries(SESSION) if isinstance(e, ResetEntry)]
    assert len(resets) == processes * REWINDS
    wanted = FIRST + 2 * (ADDS // 3) - processes * REWINDS
    return wanted, len(race.store.get_messages(SESSION))


def test_planted_fault(race: Race) -> None:
    """The race is one: rewinding by saving a plain list takes others' messages with it."""
    wanted, found = _rewind_while_others_add(race, "rewind_plainly", 1)
    assert found < wanted


@pytest.mark.parametrize("processes", [1, 2])
def test_rewinding_while_others_add(race: Race, processes: int) -> None:
    """Each rewind takes one message out of the history, however many are added meanwhile."""
    wanted, found = _rewind_while_others_add(race, "rewind", processes)
    assert found == wanted


def test_purging_while_others_write(race: Race) -> None:
    """Two that purge in a loop never touch what is current, whoever rewrites it meanwhile."""
    race.store.add_message(SESSION, "system", "begin")
    savers = race.enter("save_itself", processes=2, count=40)
    editor, *_ = race.enter("edit")
    purgers = race.enter("purge", processes=2)
    race.go()
    for saver in savers:
        saver.finish()
        saver.count = 2 * saver.count
    race.stop()
    ((_, rewrites),) = (line.split() for line in editor.finish())
    purged = sum(int(line.split()[1]) for racer in purgers for line in racer.finish())
    found = race.tally(savers)
    assert not found.harmed, found
    assert not found.split, found
    purged += race.store.purge().generations
    assert purged == int(rewrites) > 5
    assert race.store.stats(SESSION).generations == 1
    assert race.store.verify().problems == []
