"""A run to be recorded: the real store, its engine and its backend do what a seed says.

Every call is entered in the acknowledgement log together with what the store holds afterwards. That
this is what was asked for is checked at once, against lists that know nothing of Holdfast.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from holdfast.model.commit import Commit, Deletion
from holdfast.model.write import WriteKind
from holdfast.store.backend import Outcome
from holdfast.store.sqlite import arrivals
from holdfast.store.sqlite.connections import ConnectionFactory, Database
from holdfast.testing.powerloss.clock import Clock
from holdfast.testing.powerloss.connection import Connections, Setting
from holdfast.testing.powerloss.disk import Operation
from holdfast.testing.powerloss.live import LiveStore
from holdfast.testing.powerloss.picture import TIMEOUT_S
from holdfast.testing.powerloss.recording import DATABASE, Keyed, Moment, Recording
from holdfast.testing.powerloss.steps import Steps
from holdfast.testing.powerloss.vfs import recording

CALLS = 40
CHECKPOINT_PAGES = (5, 10, 20)
"""After how many pages the log is folded into the file: few, so that it is begun anew often."""

ARRIVALS = (3, 2)
"""How many of them stay in their queue, and how many leave it together."""

NOTHING = Moment(what="nothing was there")


def record(
    seed: int,
    setting: Setting,
    folder: Path,
    *,
    calls: int = CALLS,
    first: Moment = NOTHING,
) -> Recording:
    """Run in a folder, and return what was recorded.

    The folder may hold what an earlier power loss left, `first` being the moment that it left.
    """
    start = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    with recording(folder, seed) as recorder:
        run = Run(
            seed,
            folder / DATABASE,
            lambda pages: Connections(recorder, setting, pages),
            recorder.operations,
            first,
        )
        run.go(calls)
    return Recording(
        seed=seed,
        setting=setting,
        start=start,
        operations=tuple(recorder.operations),
        moments=tuple(run.moments),
    )


class Run:
    """One life of a store, and its acknowledgement log: `operations` grow while it goes on.

    `factory_for` makes connections that fold the log into the file after so many pages.
    """

    def __init__(
        self,
        seed: int,
        path: Path,
        factory_for: Callable[[int], ConnectionFactory],
        operations: Sequence[Operation],
        first: Moment = NOTHING,
    ) -> None:
        self.moments = [replace(first, begun=0, done=0)]
        self._operations = operations
        self._chance = random.Random(f"calls {seed}")
        self._clock = Clock(f"clock {seed}")
        factory = factory_for(self._chance.choice(CHECKPOINT_PAGES))
        database = Database(path, "full", TIMEOUT_S, factory)
        self._live = LiveStore(database, self._clock.sources())
        self._steps = Steps(self._live, self._chance, first.said)

    def go(self, calls: int) -> None:
        """Open the store, make so many calls, and close it."""
        with _short_queue():
            self._enter("open", self._live.open)
            for _ in range(calls):
                self._clock.advance(self._chance.choice((0.3, 30.0)))
                step = self._steps.choose()
                self._enter(step.__name__, step)
            self._enter("close", self._live.close)

    def _enter(self, what: str, call: Callable[[], object]) -> None:
        """Make a call, and enter it in the log once it has answered."""
        begun = len(self._operations)
        self._live.batch.clear()
        call()
        done = len(self._operations)
        last = self.moments[-1]
        picture, said = last.picture, last.said
        if self._live.is_open:
            picture = self._live.picture()
            said = self._live.said(picture.rows)
        assert said == self._steps.wanted(), f"{what} did something else"
        happened = [(w, outcome) for w, outcome in self._live.batch if _happened(outcome)]
        deleted = {w.session_id for w, _ in happened if w.kind is WriteKind.DELETE}
        keyed = [old for old in last.keyed if old.write.session_id not in deleted]
        for write, outcome in happened:
            if write.key is not None and isinstance(outcome, Commit):
                keyed.append(Keyed(write, outcome))
        self.moments.append(
            Moment(
                what=what,
                begun=begun,
                done=done,
                writes=tuple(write for write, _ in happened),
                picture=picture,
                said=said,
                keyed=tuple(keyed),
                erased=(*last.erased, *self._steps.take_erased()),
                identity=self._live.identity if picture.rows else last.identity,
            )
        )


@contextmanager
def _short_queue() -> Iterator[None]:
    """Let few arrivals stay in their queue meanwhile, so that they leave it in runs so short."""
    usual = arrivals.MOST_ENTRIES, arrivals.LEAVING
    arrivals.MOST_ENTRIES, arrivals.LEAVING = ARRIVALS
    try:
        yield
    finally:
        arrivals.MOST_ENTRIES, arrivals.LEAVING = usual


def _happened(outcome: Outcome) -> bool:
    """Say whether a write changed something."""
    match outcome:
        case Commit():
            return not outcome.replayed
        case Deletion():
            return outcome.existed
        case _:
            return False
