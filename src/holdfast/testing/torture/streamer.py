"""The processes that run turns: open them with keys, stream answers, record what was used.

A streamer may be killed at any instant and started again. It then sends the turn that was not done
once more, with the same key: if it had ended, it is given back; if not, it is resumed as the next
attempt, behind the answers that are whole. The same happens to one that was so slow that another
worker took its session over.
"""

from __future__ import annotations

import time
from pathlib import Path

import holdfast
from holdfast.errors import LeaseLost
from holdfast.store.sync_turn import Turn
from holdfast.testing.torture import script
from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.turnlog import SUFFIX, TurnLog, read_turns
from holdfast.testing.torture.worker import Whistle, connect

LEASE_S = 0.5
"""How long a lease lasts: so long a session waits for a worker that was killed."""

PIECE_S = 0.015
"""How long a model thinks about a piece of its answer."""


def stream(plan: Plan, worker: str) -> None:
    """Run numbered turns until the storm is over."""
    whistle = Whistle(plan)
    path = Path(plan.folder, worker + SUFFIX)
    with TurnLog(path) as log, connect(plan) as store:
        earlier = read_turns(path)
        number = earlier.open or max(earlier.sessions, default=0) + 1
        session = earlier.sessions.get(number) or plan.turns(number)
        while True:  # a turn that was sent is brought to its end even if the storm is over by now
            log.sent(number, session)
            if not _run(store, log, session, worker, number):
                continue
            if whistle.blown():
                return
            number += 1
            session = plan.turns(number)


def _run(
    store: holdfast.SessionStore, log: TurnLog, session: str, worker: str, number: int
) -> bool:
    """Run a turn to its end; false if somebody took it over."""
    key = script.key(worker, number)
    try:
        with store.turn(session, script.prompt(worker, number), key=key, ttl=LEASE_S) as turn:
            log.began(number, turn.attempt)
            if not turn.replayed:
                _answer(turn, worker, number)
    except LeaseLost:
        return False
    log.done(number, turn.id, turn.attempt)
    return True


def _answer(turn: Turn, worker: str, number: int) -> None:
    """Give the answers that are not whole yet."""
    for answer in range(len(turn.messages), script.ANSWERS):
        said = script.Said(worker, number, turn.attempt, answer)
        for piece in script.pieces(said):
            turn.write(piece)
            time.sleep(PIECE_S)
        used = script.usage(said)
        turn.record_usage(
            model=used.model,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cached_tokens=used.cached_tokens,
            call=used.call,
        )
        if answer < script.ANSWERS - 1:  # the last one becomes a message when the turn ends
            turn.add_message("assistant", script.text(said))
