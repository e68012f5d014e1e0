"""The processes that write: writers, which add messages, and savers, which save whole histories.

A worker may be killed at any instant and started again. It then reads its own log, repeats the one
write that was sent and not answered, with the same key, and goes on behind it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import holdfast
from holdfast.errors import Unavailable
from holdfast.testing.torture.acknowledgements import SUFFIX, Acked, AcknowledgementLog
from holdfast.testing.torture.plan import KINDS, Plan, message

ANSWERS_S = 20.0
"""How long a store's server may be away before a worker fails."""


def write(plan: Plan, worker: str) -> None:
    """Add numbered messages until the storm is over."""
    _Worker(plan, worker).work(_add)


def save(plan: Plan, worker: str) -> None:
    """Load a history, add a numbered message to it and save it, until the storm is over."""
    _Worker(plan, worker).work(_save_without_base if plan.naive else _save)


def connect(plan: Plan) -> holdfast.SessionStore:
    """Open the plan's store, as soon as its server answers."""
    deadline = time.monotonic() + ANSWERS_S
    while True:
        try:
            return holdfast.connect(plan.url)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Whistle:
    """Tells a worker when to end: the storm is over, or whoever started the worker is gone."""

    def __init__(self, plan: Plan) -> None:
        self._file = os.fspath(plan.stop_file)
        # Asking for the parent here would be too late: it may be gone already.
        self._supervisor = plan.supervisor or os.getppid()

    def blown(self) -> bool:
        """Say whether to end."""
        return os.path.exists(self._file) or os.getppid() != self._supervisor  # noqa: PTH110 - no Path a message


class _Sending:
    """One message on its way: a worker's store and log, and what is to be said where."""

    def __init__(self, worker: _Worker, number: int, session: str) -> None:
        self.store = worker.store
        self.pause_s = worker.plan.pause_s
        self.session = session
        self.message = message(worker.name, number)
        self.key = f"{worker.name}-{number}"
        self._log = worker.log
        self._number = number

    def announce(self) -> None:
        """Say that the next call sends it."""
        self._log.sent(self._number, self.session)


class _Worker:
    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name
        self.log = AcknowledgementLog(Path(plan.folder, name + SUFFIX))
        self.store = connect(plan)

    def work(self, send: Send) -> None:
        whistle = Whistle(self.plan)
        with self.log, self.store:
            last = self.log.last()
            if last is None or isinstance(last, Acked):
                number = 1 if last is None else last.number + 1
                session = self._session(number)
            else:
                number, session = last.number, last.session
            while True:  # an unanswered write is repeated even if the storm is over by now
                commit = send(_Sending(self, number, session))
                self.log.acked(number, commit.revision, replayed=commit.replayed)
                if whistle.blown():
                    return
                number += 1
                session = self._session(number)

    def _session(self, number: int) -> str:
        return self.plan.session(KINDS[number % len(KINDS)])


Send: TypeAlias = Callable[[_Sending], holdfast.Commit]


def _add(sending: _Sending) -> holdfast.Commit:
    role, content = sending.message["role"], sending.message["content"]
    sending.announce()
    return sending.store.add_message(sending.session, role, content, key=sending.key)


def _save(sending: _Sending) -> holdfast.Commit:
    history = sending.store.get_chat_history(sending.session)
    time.sleep(sending.pause_s)
    history.append(sending.message)
    sending.announce()
    return sending.store.set_chat_history(sending.session, history, key=sending.key)


def _save_without_base(sending: _Sending) -> holdfast.Commit:
    history = list(sending.store.get_chat_history(sending.session))
    time.sleep(sending.pause_s)
    history.append(sending.message)
    sending.announce()
    return sending.store.set_chat_history(sending.session, history, key=sending.key)
