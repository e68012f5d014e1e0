"""Starts a store from what a power failure left, as Holdfast would, and holds it to its word.

Everything is asked of the ordinary backend on the ordinary driver: nothing in here knows of the
recorded disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.model.commit import Commit
from holdfast.store.backend import Outcome
from holdfast.store.sqlite.connections import Database
from holdfast.testing.powerloss.clock import Clock
from holdfast.testing.powerloss.live import LiveStore
from holdfast.testing.powerloss.picture import TIMEOUT_S, Picture, difference
from holdfast.testing.powerloss.recording import DATABASE, Keyed, Moment, Recording
from holdfast.testing.powerloss.states import CrashState

_NEW_SESSION = "after the failure"
_NEW_TEXT = "it goes on"


def check(recording: Recording, state: CrashState, folder: Path) -> list[str]:
    """Return which promises a crash state breaks; `folder` must be empty, and is left so."""
    acknowledged, in_flight = recording.permitted(state.point)
    problems = _not_erased(acknowledged, state.files)
    return problems + _start(acknowledged, in_flight, state, folder)


def moment_found(recording: Recording, state: CrashState, folder: Path) -> Moment | None:
    """Return which of the permitted moments a state is at.

    A deletion without an answer was never said to be erased: its bytes may still be there.
    """
    with _left_by_failure(state, folder) as live:
        live.open()
        found = live.picture()
    acknowledged, in_flight = recording.permitted(state.point)
    if acknowledged.picture == found:
        return acknowledged
    if in_flight is not None and in_flight.picture == found:
        return replace(in_flight, erased=acknowledged.erased)
    return None


def _start(
    acknowledged: Moment, in_flight: Moment | None, state: CrashState, folder: Path
) -> list[str]:
    with _left_by_failure(state, folder) as live:
        try:
            live.open()
            found = live.picture()
            if found == acknowledged.picture:
                at = acknowledged
            elif in_flight is not None and found == in_flight.picture:
                at = in_flight
            else:
                return [difference(acknowledged.said, live.said(found.rows))]
            problems = [f"verify: {problem.what}" for problem in live.store.verify().problems]
            if at.identity not in (None, live.identity):
                problems.append("the store's identity is another one")
            problems += _go_on(live, at, in_flight)
            live.close()
            left = {path.name: path.read_bytes() for path in folder.iterdir()} if at.erased else {}
            return problems + _not_erased(at, left)
        except Exception as error:  # noqa: BLE001 - a damaged store may fail in any way
            return [f"{type(error).__name__}: {error}"]


def _go_on(live: LiveStore, at: Moment, in_flight: Moment | None) -> list[str]:
    """Send again what was keyed, what had no answer, and something new; all must stand."""
    repeated = [keyed.write for keyed in at.keyed]
    unanswered = in_flight.writes if in_flight is not None and in_flight is not at else ()
    after = in_flight if in_flight is not None and unanswered else at
    names = [_NEW_SESSION, *sorted(at.picture.rows)[:1]]
    new = [live.addition(name, _NEW_TEXT) for name in names]
    outcomes = live.commit([*repeated, *unanswered, *new])
    problems = _replays(at.keyed, outcomes)
    problems += [
        f"a write that was not there is not made: {outcome}"
        for outcome in outcomes[len(repeated) :]
        if isinstance(outcome, HoldfastError) or (isinstance(outcome, Commit) and outcome.replayed)
    ]
    live.close()
    live.resume()
    kept = live.picture()
    wanted = {name: list(texts) for name, texts in after.said.items()}
    for name in names:
        wanted.setdefault(name, []).append(_NEW_TEXT)
    if live.said(kept.rows) != wanted or _is_changed(at.picture, kept):
        problems.append("what was written after the failure is not what is there")
    return problems


def _replays(keyed: Sequence[Keyed], outcomes: Sequence[Outcome]) -> list[str]:
    return [
        f"the key {one.write.key!r} is forgotten"
        for one, outcome in zip(keyed, outcomes, strict=False)
        if not isinstance(outcome, Commit)
        or not outcome.replayed
        or (outcome.revision, outcome.kept) != (one.commit.revision, one.commit.kept)
    ]


def _is_changed(before: Picture, after: Picture) -> bool:
    """Say whether a log that went on has another beginning."""
    return any(
        after.rows[name].pk == row.pk
        and after.logs[name][: len(before.logs[name])] != before.logs[name]
        for name, row in before.rows.items()
        if name in after.rows
    )


def _not_erased(moment: Moment, files: Mapping[str, bytes]) -> list[str]:
    """Say what is left of sessions that were erased.

    One whose deletion was interrupted has its bytes until the next write, but no longer.
    """
    return [
        f"{mark.decode()} was erased, and is in {name}"
        for mark in moment.erased
        for name, content in files.items()
        if mark in content
    ]


@contextmanager
def _left_by_failure(state: CrashState, folder: Path) -> Iterator[LiveStore]:
    """Put the files where the power failure left them; afterwards the folder is empty."""
    for name, content in state.files.items():
        (folder / name).write_bytes(content)
    database = Database(folder / DATABASE, "full", TIMEOUT_S)
    live = LiveStore(database, Clock(f"after {state.point}").sources())
    try:
        yield live
    finally:
        live.close()
        for path in folder.iterdir():
            path.unlink()
