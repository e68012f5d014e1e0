"""A storm from its start to the verdict, for whoever wants one: the demo, the tests, a person."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from holdfast.errors import ConfigError, Unavailable
from holdfast.testing.torture.checker import check
from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.progress import Progress
from holdfast.testing.torture.report import Report

_GRACE_S = 10.0
_ERRORS = "supervisor.errors"


def storm(plan: Plan, on_progress: Callable[[Progress], None] = lambda _: None) -> Report:
    """Torture the plan's store, then compare it with what it acknowledged.

    `on_progress` is called about ten times a second while the storm lasts. When this returns or
    raises, `KeyboardInterrupt` included, no process of the storm is left.
    """
    if plan.url.lower().startswith("memory:"):
        raise ConfigError(
            "a storm needs a store that several processes can reach",
            hint="use a SQLite file, or a PostgreSQL server",
        )
    Path(plan.folder).mkdir(parents=True, exist_ok=True)
    last = Progress()
    with _supervisor(plan) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = Progress.from_json(line)
            on_progress(last)
        if process.wait() != 0:
            said = Path(plan.folder, _ERRORS).read_text("utf-8").strip().splitlines()
            raise Unavailable(
                f"the storm broke off: {said[-1] if said else 'its supervisor was ended'}",
                retryable=False,
                code="storm_broke_off",
                hint=f"the logs are in {plan.folder}",
            )
    on_progress(replace(last, checking=True))
    return Report(plan, last, check(plan.url, Path(plan.folder)))


@contextmanager
def _supervisor(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """Run the supervisor, in a session of its own: Ctrl-C is ours to answer, not its workers'."""
    command = [sys.executable, "-P", "-m", "holdfast.testing.torture.supervisor"]
    with (
        Path(plan.folder, _ERRORS).open("w") as errors,
        subprocess.Popen(
            [*command, str(os.getpid()), plan.folder],  # the folder tells people whose it is
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            _hand_over(plan, process)
            yield process
        finally:
            _end(plan, process)


def _hand_over(plan: Plan, process: subprocess.Popen[str]) -> None:
    """Give the supervisor its plan; not as an argument, since a store's URL may hold a password."""
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # one that failed already has said why
        process.stdin.write(plan.to_json())
    process.stdin = None


def _end(plan: Plan, process: subprocess.Popen[str]) -> None:
    """Have the supervisor end its workers and itself."""
    if process.poll() is not None:
        return
    plan.abort_file.touch()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_GRACE_S)
    finally:
        process.kill()  # its workers find it gone, and end after the write they are at
