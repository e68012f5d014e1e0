"""`holdfast chat`: a conversation in the terminal, which is there again tomorrow."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.agents.models import DEFAULTS
from holdfast.cli.main import cli
from holdfast.cli.program import UNHEARD
from holdfast.model.entry import TurnEntry
from holdfast.store import leases
from holdfast.store.leases import Lease, lease_of
from holdfast.testing.fakes.openai import FakeOpenAI, Scripted
from tests.agents.scene import said, wait_for
from tests.cli.conftest import Run
from tests.started import started

COMMAND = [sys.executable, "-P", "-c", "from holdfast.cli.main import main; main()"]
WAIT_S = 60


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in DEFAULTS:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store will be: chatting makes it."""
    return tmp_path / "chats.db"


def typed(path: Path, text: str, *line: str) -> Result:
    """Run a chat with these lines on its standard input."""
    words = ["chat", *line, "--model", "offline", "--store", str(path)]
    result = CliRunner().invoke(cli, words, input=text)
    assert result.exit_code == 0, result.output
    return result


def test_one_answer(run: Run, path: Path) -> None:
    """A prompt on the line is answered on standard output, and kept."""
    where = ("--model", "offline", "--store", str(path))
    run("chat", "ada", "My name is Ada", *where)
    result = run("chat", "ada", "What is my name?", *where)
    assert result.stdout == "Your name is Ada. (I am offline.)\n"
    assert result.exit_code == 0
    with holdfast.connect(str(path)) as store:
        assert len(store.get_messages("ada")) == 4
        assert store.get_session("ada").agent_name == "chat"


def test_one_answer_for_programs(run: Run, path: Path) -> None:
    """With --json the answer is an object: session, turn, text, status and usage."""
    result = run("chat", "ada", "Hello", "--model", "offline", "--store", str(path), "--json")
    answer = json.loads(result.stdout)
    assert (answer["session"], answer["status"]) == ("ada", "completed")
    assert answer["text"].endswith("You said: Hello")
    assert answer["usage"]["output_tokens"] > 0
    assert answer["turn"].startswith("turn_")


@pytest.mark.parametrize("lines", [None, "My name is Ada\nWhat is my name?\n"])
def test_nobody_reads_the_answer(path: Path, lines: str | None) -> None:
    """A pipe that is closed ends the command quietly, and the answer is kept whole."""
    reading, writing = os.pipe()
    os.close(reading)
    prompt = ["My name is Ada"] if lines is None else []
    where = ["--model", "offline", "--store", str(path)]
    ended = subprocess.run(
        [*COMMAND, "chat", "ada", *prompt, *where],
        input=lines,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    os.close(writing)
    assert "Error" not in ended.stderr
    assert ended.returncode == UNHEARD
    with holdfast.connect(str(path)) as store:
        (_, answer) = store.get_messages("ada")
        assert answer["content"] == "I will remember that your name is Ada. (I am offline.)"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_full_disk_is_no_fault_of_the_model(path: Path) -> None:
    """Where the answer cannot be written, that is what the error says."""
    where = ["--model", "offline", "--store", str(path)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, "chat", "ada", "Hello", *where],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: the output cannot be written")


def test_no_key(run: Run, path: Path) -> None:
    """Without a model and a key the error names the variable and what needs none."""
    result = run("chat", "ada", "Hello", "--store", str(path))
    assert result.exit_code == 2
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        assert variable in result.stderr
    assert "say --model offline, which needs neither a key nor a network" in result.stderr
    assert result.stdout == ""


def test_a_model_that_nobody_knows(run: Run, path: Path) -> None:
    """The hint is one for the command line, not for Python."""
    result = run("chat", "ada", "Hello", "--model", "nobody-knows", "--store", str(path))
    assert result.exit_code == 2
    assert "say --model offline" in result.stderr


@pytest.mark.parametrize("line", [["My name is Ada"], ["-p", "Hello"], ["--prompt", "Hello"]])
def test_a_question_without_a_session(run: Run, path: Path, line: list[str]) -> None:
    """A question alone is answered, in a new session, which is named so that it can go on."""
    result = run("chat", *line, "--model", "offline", "--store", str(path))
    assert result.exit_code == 0
    assert "I am offline" in result.stdout
    with holdfast.connect(str(path)) as store:
        (info,) = store.list_sessions()
    assert info.id.startswith("chat_")
    assert f"this is session {info.id} in {path}; name it to go on" in result.stderr


def test_a_session_whose_id_holds_a_blank(path: Path) -> None:
    """A single argument that is a session's id is that session, blanks or not."""
    with holdfast.connect(str(path)) as store:
        store.add_user_message("my trip", "My name is Ada")
    result = typed(path, "What is my name?\n", "my trip")
    assert result.stdout.splitlines()[-1] == "Your name is Ada. (I am offline.)"
    assert "Session my trip" in result.stderr


def test_two_prompts(run: Run, path: Path) -> None:
    """A prompt in both places is wrong use; -p goes with a session as well."""
    where = ("--model", "offline", "--store", str(path))
    result = run("chat", "ada", "Hello", "-p", "Hello", *where)
    assert (result.exit_code, "twice" in result.stderr) == (2, True)
    result = run("chat", "ada", "-p", "Hello", *where)
    assert (result.exit_code, "You said: Hello" in result.stdout) == (0, True)
    assert "name it to go on" not in result.stderr


def test_an_empty_session_id(run: Run, path: Path) -> None:
    """An id that a script left empty is wrong use, and begins no new session."""
    result = run("chat", "", "Hello", "--model", "offline", "--store", str(path))
    assert result.exit_code == 2
    assert "empty" in result.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["ada", ""], "the prompt is empty"),
        (["-p", "  "], "the prompt is empty"),
        (["ada", "Hi", "--base-url", "http://localhost/v1"], "goes with --model"),
        (["ada", "Hi", "--base-url", "localhost:80", "--model", "m"], "no address of a server"),
    ],
)
def test_what_cannot_be_asked(run: Run, path: Path, line: list[str], complaint: str) -> None:
    """What cannot be asked is wrong use, said in the words of the command line."""
    result = run("chat", *line, "--store", str(path))
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_lines_are_prompts(path: Path) -> None:
    """Each line is answered in the same session; later the end of it is shown, and goes on."""
    result = typed(path, "My name is Ada\n\nWhat is my name?\n", "ada")
    assert result.stdout.splitlines()[-1] == "Your name is Ada. (I am offline.)"
    assert "is new" in result.stderr
    again = typed(path, "And now, what is my name?\n", "ada")
    assert "My name is Ada" in again.stdout
    assert again.stdout.splitlines()[-1] == "Your name is Ada. (I am offline.)"
    assert "goes on" in again.stderr


def test_a_new_session_is_named(path: Path) -> None:
    """Without a session one is made up, and named, so that it can be resumed."""
    result = typed(path, "Hello\n")
    with holdfast.connect(str(path)) as store:
        (info,) = store.list_sessions()
    assert info.id in result.stderr


def test_commands(path: Path) -> None:
    """The commands show, begin, resume, copy and take back conversations, and count tokens."""
    lines = [
        "My name is Ada",
        "/usage",
        "/fork copy",
        "Hello",
        "/rewind",
        "/history",
        "/new other",
        "What is my name?",
        "/resume",
        "/resume ada",
        "What is my name?",
        "/help",
        "/quit",
        "not reached",
    ]
    result = typed(path, "\n".join(lines) + "\n", "ada")
    assert "tokens in" in result.stderr
    assert "1 call." in result.stderr
    assert "Session copy is a copy" in result.stderr
    assert "2 messages left the conversation" in result.stderr
    assert "You have not told me your name" in result.stdout
    assert result.stdout.splitlines()[-1] == "Your name is Ada. (I am offline.)"
    assert "/rewind [TO]" in result.stderr
    with holdfast.connect(str(path)) as store:
        assert {info.id for info in store.list_sessions()} == {"ada", "copy", "other"}
        assert len(store.get_messages("copy")) == 2
        assert len(store.get_messages("ada")) == 4


def test_commands_that_cannot_be_done(path: Path) -> None:
    """What cannot be done is said, and the chat goes on."""
    lines = "/nope\n/resume nobody\n/rewind no-such-label\n/fork\n/usage\nHello\n"
    result = typed(path, lines, "ada")
    assert "There is no /nope" in result.stderr
    assert "there is no session 'nobody'" in result.stderr
    assert "holdfast session list shows" in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert result.stderr.count("There is nothing in this conversation yet") == 2
    assert "Nothing was used yet" in result.stderr
    assert result.stdout.splitlines()[-1].endswith("You said: Hello")


def test_a_model_that_fails(run: Run, path: Path) -> None:
    """An error of the provider is said, one answer exits with 1, and what came before is kept."""
    cut = Scripted(pieces=("One ", "two ", "three"), cut_after=2)
    with FakeOpenAI([cut]) as fake:
        where = ("--model", "m", "--base-url", fake.base_url, "--store", str(path))
        result = run("chat", "ada", "Count", *where)
    assert result.exit_code == 1
    assert result.stdout == "One two \n"
    assert "Connection error" in result.stderr
    assert fake.base_url in result.stderr
    with holdfast.connect(str(path)) as store:
        assert said(store.get_messages("ada"))[-1] == ("assistant", "One two ", "interrupted")


def test_a_server_that_is_not_there(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a connection says where it was to go to, and which variable said so."""
    with FakeOpenAI() as fake:
        url = fake.base_url  # nobody listens there afterwards
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    result = run("chat", "ada", "Hi", "--model", "openai:gpt-4o-mini", "--store", str(path))
    assert result.exit_code == 1
    assert f"Hint:  this asked the server at {url} (from OPENAI_BASE_URL)" in result.stderr


def test_ctrl_c_stops_the_answer(path: Path) -> None:
    """Ctrl-C ends an answer and not the chat; what was said is kept, marked interrupted."""
    script = [Scripted(pieces=("One ", "two"), hold_after=1), Scripted(pieces=("Here.",))]
    with FakeOpenAI(script) as fake, holdfast.connect(str(path)) as store:
        words = ["chat", "ada", "--model", "m", "--base-url", fake.base_url, "--store", str(path)]
        process = started(
            subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        assert process.stdin is not None
        process.stdin.write("Count\n")
        process.stdin.flush()
        wait_for(lambda: has_streamed(store), "the streamed text")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate("Still there?\n", timeout=WAIT_S)
        fake.release()
        assert process.returncode == 0, err
        assert out == "One \nHere.\n"
        assert "(interrupted" in err
        assert said(store.get_messages("ada")) == [
            ("user", "Count", None),
            ("assistant", "One ", "interrupted"),
            ("user", "Still there?", None),
            ("assistant", "Here.", None),
        ]


def test_ctrl_c_stops_the_only_answer(path: Path) -> None:
    """One answer that was interrupted exits with 130, so that no script takes it for whole."""
    with FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)]) as fake:
        words = ["ada", "Count", "--model", "m", "--base-url", fake.base_url, "--store", str(path)]
        with holdfast.connect(str(path)) as store:
            process = started(
                subprocess.Popen(
                    [*COMMAND, "chat", *words],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            wait_for(lambda: has_streamed(store), "the streamed text")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
            fake.release()
    assert process.returncode == 130, err
    assert out == "One \n"
    assert "(interrupted" in err


def test_ctrl_c_at_the_prompt(path: Path) -> None:
    """Ctrl-C in a terminal takes back the line, and not the chat."""
    ours, theirs = pty.openpty()
    words = ["chat", "ada", "--model", "offline", "--store", str(path)]
    process = started(
        subprocess.Popen(
            [*COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
    )
    os.close(theirs)
    shown = bytearray()

    def see(text: bytes, wait_s: float = WAIT_S) -> bool:
        while text not in shown:
            if not select.select([ours], [], [], wait_s)[0]:
                return False
            shown.extend(os.read(ours, 4096))
        del shown[: shown.index(text) + len(text)]
        return True

    def interrupted() -> bool:
        # Python's readline() misses a signal that comes just before it waits for a key.
        process.send_signal(signal.SIGINT)
        return see(b"Ctrl-D ends the chat.", 2)

    assert see(b"> ")
    os.write(ours, b"half a line")
    assert see(b"half a line")
    wait_for(interrupted, "the end of the line")
    assert see(b"> ")
    os.write(ours, b"Hello\n")
    assert see(b"You said: Hello")
    assert see(b"> ")
    os.write(ours, b"\x04")
    assert process.wait(WAIT_S) == 0
    os.close(ours)


def test_a_turn_that_runs_elsewhere(path: Path) -> None:
    """Who waits for another's turn is told so, and answered when that is over."""
    words = ["chat", "ada", "Hello", "--model", "offline", "--store", str(path)]
    with holdfast.connect(str(path)) as store:
        with store.turn("ada", "Mine"):
            process = started(
                subprocess.Popen(
                    [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
            assert process.stderr is not None
            told = process.stderr.readline()
            assert f"waits for the turn that {store_worker(store)} runs" in told
            (seconds,) = re.findall(r"if that died, for (\d+) seconds", told)
            assert 0 < int(seconds) <= 30
        out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert "You said: Hello" in out


def test_ctrl_c_while_another_turn_runs(path: Path) -> None:
    """Who stops waiting for another's turn has asked nothing, and is told so."""
    words = ["chat", "ada", "Hello", "--model", "offline", "--store", str(path)]
    with holdfast.connect(str(path)) as store, store.turn("ada", "Mine"):
        process = started(
            subprocess.Popen(
                [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        assert process.stderr is not None
        assert "waits for the turn" in process.stderr.readline()
        wait_for(lambda: stand_in_line(path), "a place in the line")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, out) == (130, "")
        assert "(stopped waiting; nothing was asked)" in err
        assert [message["content"] for message in store.get_messages("ada")] == ["Mine"]


def test_how_long_a_dead_worker_holds_a_session(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a worker that was killed is told what is left of its lease, not of any."""
    true_ns, ahead_s = time.time_ns, 0
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + ahead_s * 1_000_000_000)

    def looked(store: holdfast.SessionStore, session_id: str) -> Lease | None:
        nonlocal ahead_s
        found = lease_of(store, session_id)
        ahead_s = 600  # it has run out when it has been told
        return found

    monkeypatch.setattr(leases, "lease_of", looked)
    with holdfast.connect(str(path)) as store:
        turn = store.turn("ada", "Mine", ttl=600)
        turn.__enter__()
        turn._shell.detach(turn._live)  # as if killed: nobody renews the lease
        words = ["chat", "ada", "Hello", "--model", "offline", "--store", str(path)]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0
        (seconds,) = re.findall(r"if that died, for (\d+) seconds?", result.stderr)
        assert 300 < int(seconds) <= 600
        assert "You said: Hello" in result.stdout


def stand_in_line(path: Path) -> bool:
    """Say whether somebody waits for a session's turn."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("SELECT count(*) FROM waiters").fetchone()[0])


def store_worker(store: holdfast.SessionStore) -> str:
    """Return the worker that the log's last turn names."""
    return str([e for e in store.read_entries("ada") if isinstance(e, TurnEntry)][-1].worker)


def has_streamed(store: holdfast.SessionStore) -> bool:
    """Say whether streamed text is in the log."""
    if not store.session_exists("ada"):
        return False
    return any(entry.kind == "delta" for entry in store.read_entries("ada"))


def test_control_characters_are_shown(run: Run, path: Path) -> None:
    """What a model says moves no cursor and sets no colour."""
    with FakeOpenAI([Scripted(pieces=("a\x1b[31mb",))]) as fake:
        where = ("--model", "m", "--base-url", fake.base_url, "--store", str(path))
        assert run("chat", "ada", "Hi", *where).stdout == "a\\x1b[31mb\n"
