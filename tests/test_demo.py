"""The demo: what it shows is true, and it can fail."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import holdfast
from holdfast.testing.postgres import Server
from tests.started import started

HOLDFAST = [sys.executable, "-P", "-c", "from holdfast.cli.main import main; main()"]
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the demo leave its files in the test's folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "HOLDFAST_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_demo_keeps_every_promise() -> None:
    """Two seconds of killing lose nothing, and the result says what was done."""
    ended = _demo("--json", "--seconds", "2", "--seed", "11", "--workers", "3")
    result = json.loads(ended.stdout)
    assert (ended.returncode, result["broken"]) == (0, [])
    assert result["kept"] is True
    assert result["seed"] == 11
    assert result["writers"] == 3
    assert result["found"] == result["acknowledged"] > 0
    assert result["lost"] == result["doubled"] == result["out_of_order"] == 0
    assert result["reads"] > 0
    assert result["empty_reads"] == 0
    assert result["kills"] > 0
    assert result["unanswered"] > 0
    assert result["turns_started"] == result["turns_completed"] > 0
    for broken in ("missing", "prompts_doubled", "overlapping", "miscounted"):
        assert result[f"turns_{broken}"] == 0


def test_the_demo_leaves_a_store_to_look_at() -> None:
    """The commands that it names show what it wrote."""
    ended = _demo("--json", "--seconds", "1")
    result = json.loads(ended.stdout)
    with holdfast.connect(result["store"]) as store:
        assert len(store.list_sessions()) == result["sessions"]
    listed, shown, turns = (_run(*shlex.split(command)[1:]) for command in result["look"])
    assert result["longest"] in listed.stdout
    assert "my code is " in shown.stdout
    assert "completed" in turns.stdout
    assert listed.returncode == shown.returncode == turns.returncode == 0


@pytest.mark.timeout(120)
def test_the_demo_kills_a_server_of_its_own(tmp_path: Path) -> None:
    """With --postgres alone the demo has a server of its own, kills it, and leaves none."""
    ended = _demo("--postgres", "--json", "--seconds", "5", "--seed", "4")
    result = json.loads(ended.stdout)
    assert (ended.returncode, result["broken"]) == (0, [])
    assert result["server_kills"] > 0
    assert result["found"] == result["acknowledged"] > 0
    assert result["look"] == []
    assert not list(tmp_path.rglob("postmaster.pid"))


def test_the_demo_leaves_nothing_on_a_named_server(server: Server) -> None:
    """With --postgres URL it works in a schema of its own, and removes it."""
    schemas = "SELECT nspname FROM pg_namespace ORDER BY nspname"
    before = server.execute(schemas)
    ended = _demo("--postgres", server.url, "--json", "--seconds", "2")
    result = json.loads(ended.stdout)
    assert (ended.returncode, result["broken"]) == (0, [])
    assert "schema=holdfast_demo_" in result["store"]
    assert server.execute(schemas) == before


@pytest.mark.parametrize("url", ["chats.db", "postgresql://localhost/x?schema=mine"])
def test_the_demo_refuses_what_is_no_server(url: str) -> None:
    """--postgres takes the URL of a server, without a schema."""
    assert _demo("--postgres", url).returncode == 2


def test_the_naive_demo_loses_messages_and_says_so() -> None:
    """Load, modify, save without a base loses messages: the demo can fail."""
    ended = _demo("--naive", "--seconds", "2")
    assert ended.returncode == 1
    assert re.search(r"^lost +[1-9]", ended.stdout, re.MULTILINE)
    assert re.search(r"Broken: [\d,]+ acknowledged messages are lost", ended.stdout)
    assert "without --naive nothing is lost" in ended.stdout


def test_the_table_is_plain_text_in_a_pipe() -> None:
    """Nothing moves and nothing is coloured where nobody watches; data and messages are apart."""
    ended = _demo("--seconds", "1")
    assert ended.returncode == 0
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "\r" not in ended.stdout + ended.stderr
    assert re.search(r"^lost +0 ", ended.stdout, re.MULTILINE)
    assert re.search(r"^text shown and missing +0 ", ended.stdout, re.MULTILINE)
    assert "killed with SIGKILL" in " ".join(ended.stderr.split())
    assert "acknowledged" not in ended.stderr


def test_nothing_moves_where_only_colour_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuous integration likes colours, but its log is no terminal to move a cursor on."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    ended = _demo("--seconds", "1")
    assert "\x1b" in ended.stdout, "colour is not forced, so this test proves nothing"
    assert "\x1b" not in ended.stderr


def test_ctrl_c_ends_every_process_and_leaves_the_files(tmp_path: Path) -> None:
    """Interrupted in the middle it says what it left, exits with 130, and nothing still runs."""
    terminal, stderr = pty.openpty()
    process = started(
        subprocess.Popen(
            [*HOLDFAST, "demo", "--seconds", "600"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    )
    os.close(stderr)
    _read_until(terminal, r"[1-9][\d,]*\s+messages acknowledged")
    assert _processes_in(tmp_path)
    process.send_signal(signal.SIGINT)
    said = _read_until(terminal, None)
    assert process.wait() == 130
    assert process.stdout is not None
    assert process.stdout.read() == ""
    os.close(terminal)
    assert _processes_in(tmp_path) == []
    (left,) = tmp_path.glob("holdfast-demo-*")
    assert str(left) in said
    assert (left / "demo.db").exists()


def test_killing_the_demo_itself_ends_every_process(tmp_path: Path) -> None:
    """Even when it cannot say goodbye, its workers find it gone and end."""
    terminal, stderr = pty.openpty()
    process = started(subprocess.Popen([*HOLDFAST, "demo", "--seconds", "600"], stderr=stderr))
    os.close(stderr)
    _read_until(terminal, r"[1-9][\d,]*\s+messages acknowledged")
    process.kill()
    os.close(terminal)
    deadline = time.monotonic() + PATIENCE_S
    while left := _processes_in(tmp_path):  # each look takes a process of its own: time passes
        assert time.monotonic() < deadline, left


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--seconds", "soon"],
        ["--workers", "0"],
        ["--seed", "-1"],
        ["--fast"],
        ["now"],
        ["--store", "mine.db"],
    ],
)
def test_wrong_use_is_told_apart(arguments: list[str], tmp_path: Path) -> None:
    """A wrong argument exits with 2, says so on stderr, and starts nothing."""
    ended = _demo(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Error" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run("demo", *arguments)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HOLDFAST, *arguments], capture_output=True, text=True, check=False)


def _read_until(terminal: int, pattern: str | None) -> str:
    """Read what a terminal shows until the pattern is there; without one, until it is closed."""
    shown = b""
    while pattern is None or not re.search(pattern, _plain(shown)):
        try:
            news = os.read(terminal, 4096)
        except OSError:  # Linux's way to say that nobody has the other end any more
            news = b""
        if not news:
            assert pattern is None, f"it ended before it showed {pattern}: {_plain(shown)}"
            break
        shown += news
    return _plain(shown)


def _plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r?\n", " ", shown.decode("utf-8", "replace"))


def _processes_in(folder: Path) -> list[str]:
    """Every process of the demo names its folder in its arguments, the forked ones too."""
    listed = subprocess.run(
        ["ps", "-Aww", "-o", "args="], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if str(folder) in line]
