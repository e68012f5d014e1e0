"""The command as a process: pipes, terminals and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from tests.started import started

pty = pytest.importorskip("pty")

COMMAND = [sys.executable, "-c", "from holdfast.cli.main import main; main()"]


def start(*line: str, **streams: int) -> subprocess.Popen[bytes]:
    """Starts the command."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return started(subprocess.Popen([*COMMAND, *line], **given))  # type: ignore[call-overload]


class Terminal:
    """A terminal of 80 columns with the command in it."""

    def __init__(self, *line: str) -> None:
        self._end, theirs = pty.openpty()
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
        self.process = started(
            subprocess.Popen(
                [*COMMAND, *line],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=environment,
                start_new_session=True,
                preexec_fn=_take_terminal,  # noqa: PLW1509 - no other thread runs here
            )
        )
        os.close(theirs)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._end, keys)

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C as one does, again until the command ends.

        Python's `input` overlooks a signal that comes while it is about to begin waiting.
        """
        while self.process.poll() is None:
            self.type(b"\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)

    def read_until(self, text: bytes = b"") -> bytes:
        """Return what appears until `text` does, or until the command ends."""
        seen = b""
        while not text or text not in seen:
            try:
                more = os.read(self._end, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not more:
                break
            seen += more
        return seen

    def end(self) -> tuple[int, bytes]:
        """Return the exit code and what was left to read."""
        rest = self.read_until()
        os.close(self._end)
        return self.process.wait(60), rest


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_pipe_whose_reader_left_is_quiet(path: Path) -> None:
    """With `| head` gone, the command ends with 141, as shells have it, and prints nothing."""
    for line in (["session", "list"], ["session", "list", "--json"], ["--help"], ["doctor"]):
        reading, writing = os.pipe()
        os.close(reading)
        process = start("--store", str(path), *line, stdout=writing)
        os.close(writing)
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (141, b""), line


def test_a_full_disk_under_the_output_is_said(path: Path) -> None:
    """Output that cannot be written exits with 1 and one line."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with full.open("wb") as nowhere:
        process = start("session", "list", "--store", str(path), stdout=nowhere.fileno())
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint == b"Error: the output cannot be written: No space left on device\n"


def test_output_without_utf8_is_escaped(path: Path) -> None:
    """Where the output has no UTF-8, other characters become escapes instead of a traceback."""
    with holdfast.connect(str(path)) as store:
        store.add_user_message("漢", "字")
    done = subprocess.run(
        [*COMMAND, "session", "show", "漢", "--store", str(path)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert rb"\u5b57" in done.stdout


def test_long_lines_stay_whole_in_a_pipe(path: Path) -> None:
    """Into a pipe nothing is wrapped or cut to a width, and no line ends in blanks."""
    with holdfast.connect(str(path)) as store:
        store.create_session("long", title="word " * 100)
        store.add_user_message("long", "word " * 100)
    for line in (["session", "list"], ["session", "show", "long"]):
        out, _ = start(*line, "--store", str(path)).communicate(timeout=60)
        assert ("word " * 100).strip().encode() in out
        assert not any(text.endswith(b" ") for text in out.split(b"\n"))
        assert b"\x1b" not in out


def test_a_terminal_is_asked_and_obeyed(path: Path) -> None:
    """On a terminal deleting asks: no deletes nothing and exits with 1, yes deletes."""
    terminal = Terminal("session", "delete", "trip", "--store", str(path))
    assert "“To Lisbon” (4 messages".encode() in terminal.read_until(b"[y/N]: ")
    terminal.type(b"n\r")
    code, rest = terminal.end()
    assert code == 1
    assert b"Nothing was deleted." in rest
    with holdfast.connect(str(path)) as store:
        assert store.session_exists("trip")
    terminal = Terminal("session", "delete", "trip", "--store", str(path))
    terminal.read_until(b"[y/N]: ")
    terminal.type(b"y\r")
    code, rest = terminal.end()
    assert code == 0
    assert b"its bytes are erased" in rest
    with holdfast.connect(str(path)) as store:
        assert not store.session_exists("trip")


def test_ctrl_c_at_the_question(path: Path) -> None:
    """Ctrl-C instead of an answer exits with 130, deletes nothing and shows no traceback."""
    terminal = Terminal("session", "delete", "trip", "--store", str(path))
    terminal.read_until(b"[y/N]: ")
    terminal.press_ctrl_c()
    code, rest = terminal.end()
    assert code == 130
    assert b"Interrupted." in rest
    assert b"Traceback" not in rest
    with holdfast.connect(str(path)) as store:
        assert store.session_exists("trip")


def test_ctrl_c_while_another_program_writes(path: Path) -> None:
    """A command that waits for another writer ends at once on Ctrl-C, with one line."""
    import fcntl

    with holdfast.connect(str(path)) as store:
        store.add_user_message("trip", "makes the lock files")
    with Path(f"{path}-queue").open("rb+") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)
        process = start("session", "rename", "trip", "x", "--store", str(path))
        waits = f":{os.fstat(queue.fileno()).st_ino} ".encode()
        while not any(b"->" in line and waits in line for line in _locks()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, complaint = process.communicate(timeout=60)
    assert (process.returncode, out, complaint) == (130, b"", b"Interrupted.\n")
    with holdfast.connect(str(path)) as store:
        assert store.get_session("trip").title == "To Lisbon"


def _locks() -> list[bytes]:
    return Path("/proc/locks").read_bytes().splitlines()


def test_help_imports_neither_rich_nor_the_demo() -> None:
    """--help, which people wait for most, loads neither rich nor the machinery of the demo."""
    program = (
        "import sys; from holdfast.cli.main import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'rich' or 'torture' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
