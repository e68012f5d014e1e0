"""Many recordings, many crash states of each, on several processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.testing.powerloss.checking import check, moment_found
from holdfast.testing.powerloss.connection import Setting
from holdfast.testing.powerloss.recording import INDEX, Moment, Recording
from holdfast.testing.powerloss.report import Failure, Report, Tally
from holdfast.testing.powerloss.states import CrashState, boundaries, crash_states
from holdfast.testing.powerloss.workload import record

MEMORY = Path("/dev/shm")
STATES_PER_LIFE = 1_000
LIVES = 2
STATES_PER_JOB = STATES_PER_LIFE * LIVES
SOUND = (Setting.WAL, Setting.WAL, Setting.WAL, Setting.JOURNAL)
"""What keeps the promise, and how often each has its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many states to try. Job number n has the seed `seed` + n, and the next of `settings`."""

    seed: int
    states: int
    settings: tuple[Setting, ...] = SOUND
    processes: int = 1

    def jobs(self) -> list[Job]:
        """Return the work in pieces, the last one smaller."""
        return [
            Job(
                self.seed + number,
                self.settings[number % len(self.settings)],
                min(STATES_PER_JOB, self.states - number * STATES_PER_JOB),
            )
            for number in range(-(-self.states // STATES_PER_JOB))
        ]


@dataclass(frozen=True, slots=True)
class Job:
    """One store's lives, and so many crash states of them."""

    seed: int
    setting: Setting
    states: int


def run(plan: Plan, on_progress: Callable[[Tally], None] = lambda _: None) -> Report:
    """Try a plan's states, and report what came of them; `on_progress` hears of each job."""
    began = time.monotonic()
    total = Tally()
    with closing(_tallies(plan)) as tallies:
        for tally in tallies:
            total += tally
            on_progress(total)
    return Report(plan.seed, plan.settings, total, time.monotonic() - began)


def _tallies(plan: Plan) -> Generator[Tally, None, None]:
    jobs = plan.jobs()
    with _memory() as root:  # removed here, since a pool that is left early kills its processes
        work = functools.partial(run_job, root=root)
        if plan.processes == 1:
            yield from map(work, jobs)
            return
        with multiprocessing.get_context("spawn").Pool(min(plan.processes, len(jobs))) as pool:
            yield from pool.imap_unordered(work, jobs)


def run_job(job: Job, root: Path) -> Tally:
    """Record a store's first life and check it after many power failures, then from one of them on.

    The second life begins with what a power failure in the first one left: so recovery is recorded,
    and interrupted, as well.
    """
    chance = random.Random(f"states {job.seed}")
    with _scratch(root) as folder:
        recording = record(job.seed, job.setting, folder)
    tally, left = _try_states(recording, job, 1, chance, root)
    if left is None or job.states <= STATES_PER_LIFE:
        return tally
    state, moment = left
    with _scratch(root) as folder:
        for name, content in state.files.items():
            if name != INDEX:
                (folder / name).write_bytes(content)
        recording = record(chance.getrandbits(32), job.setting, folder, first=moment)
    more, _ = _try_states(recording, job, 2, chance, root)
    return tally + more


def _try_states(
    recording: Recording, job: Job, life: int, chance: random.Random, root: Path
) -> tuple[Tally, tuple[CrashState, Moment] | None]:
    """Check the states of one life, and choose one from which the next may begin."""
    wanted = min(STATES_PER_LIFE, job.states - STATES_PER_LIFE * (life - 1))
    states = in_flight = broken = 0
    failures: list[Failure] = []
    chosen = chance.randrange(wanted)
    left: tuple[CrashState, Moment] | None = None
    with _scratch(root) as folder:
        for state in crash_states(recording, chance, wanted):
            acknowledged, under_way = recording.permitted(state.point)
            in_flight += under_way is not None
            if problems := check(recording, state, folder):
                broken += 1
                failures.append(
                    Failure(
                        seed=job.seed,
                        setting=job.setting,
                        life=life,
                        point=state.point,
                        operations=len(recording.operations),
                        call=(under_way or acknowledged).what,
                        problem="; ".join(problems),
                    )
                )
            elif states >= chosen and left is None:
                moment = moment_found(recording, state, folder)
                left = (state, moment) if moment else None
            states += 1
    tally = Tally(
        recordings=1,
        operations=len(recording.operations),
        boundaries=len(boundaries(recording)),
        acknowledged=len(recording.moments) - 1,
        states=states,
        in_flight=in_flight,
        broken=broken,
        failures=tuple(failures),
    )
    return tally, left


@contextmanager
def _memory() -> Iterator[Path]:
    """Offer a folder that is in memory, where the system has such a place."""
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    with tempfile.TemporaryDirectory(
        prefix="holdfast-powerloss-",
        dir=MEMORY if usable else None,
        ignore_cleanup_errors=True,  # a process that is being killed may still write
    ) as folder:
        yield Path(folder)


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """Offer an empty folder for a while."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        yield Path(folder)
