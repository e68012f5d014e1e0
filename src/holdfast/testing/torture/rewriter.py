"""The process that rewrites histories in a loop, while others add to them and read them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import holdfast
from holdfast.model.message import Message
from holdfast.testing.torture.acknowledgements import AcknowledgementLog
from holdfast.testing.torture.plan import REDACTED, SECRET, Plan
from holdfast.testing.torture.worker import Whistle, connect

LOG = "rewrites.log"


def rewrite(plan: Plan, _name: str) -> None:
    """Redact the edited session of the moment, again and again, until the storm is over."""
    whistle = Whistle(plan)
    store = connect(plan)
    log = AcknowledgementLog(Path(plan.folder, LOG))
    with store, log:
        last = log.last()
        rewriter = _Rewriter(plan, store, log, 0 if last is None else last.number)
        while not whistle.blown():
            session = plan.session("edited")
            if store.session_exists(session):
                rewriter.rewrite(session)
            time.sleep(plan.pause_s)


class _Rewriter:
    def __init__(
        self, plan: Plan, store: holdfast.SessionStore, log: AcknowledgementLog, number: int
    ) -> None:
        self._plan = plan
        self._store = store
        self._log = log
        self._number = number

    def rewrite(self, session: str) -> None:
        self._number += 1
        edit = self._edit_without_base if self._plan.naive else self._edit
        commit = edit(session)
        self._log.acked(self._number, commit.revision, replayed=commit.replayed)

    def _edit(self, session: str) -> holdfast.Commit:
        def redact(history: holdfast.History) -> list[Message]:
            self._log.sent(self._number, session)  # what it returns is sent at once
            return _redacted(history)

        return self._store.edit_history(session, redact)

    def _edit_without_base(self, session: str) -> holdfast.Commit:
        history = self._store.get_chat_history(session)
        time.sleep(self._plan.pause_s)
        self._log.sent(self._number, session)
        return self._store.set_chat_history(session, _redacted(history))


def _redacted(history: Sequence[Message]) -> list[Message]:
    return [{**m, "content": m["content"].replace(SECRET, REDACTED)} for m in history]
