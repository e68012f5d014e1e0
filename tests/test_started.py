"""What a test starts and leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.started import end_all, started

READS = [sys.executable, "-c", "import sys; print('reads', flush=True); sys.stdin.read()"]


def test_what_still_runs_is_ended() -> None:
    """A process that would go on for ever is killed and waited for, and its pipes are closed."""
    process = started(subprocess.Popen(READS, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"reads\n"
    process.stdin.write(b"never sent")
    process.send_signal(signal.SIGSTOP)  # not even then does it stay
    end_all()
    assert process.returncode == -signal.SIGKILL
    assert process.stdin.closed
    assert process.stdout.closed


@pytest.mark.parametrize("text", [False, True])
def test_what_has_ended_stays_as_it_was(*, text: bool) -> None:
    """A process whose end a test has seen keeps its exit code."""
    process = started(subprocess.Popen(READS, stdin=subprocess.PIPE, stdout=-1, text=text))
    process.communicate()
    end_all()
    assert process.returncode == 0
