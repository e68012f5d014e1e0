"""`holdfast doctor`: each finding in the state in which it has something to say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.store.diagnosis import Finding, Limits
from holdfast.store.sqlite.diagnosis import diagnose, onlooker
from tests.cli.conftest import Run

linux = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells of locks")
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
NO_SPACE_NEEDED = Limits(free_bytes=0, free_share=0, held_s=0)

HOLD_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("holding", flush=True)
sys.stdin.read()
"""
HOLD_READER = HOLD_WRITE_LOCK.replace(
    '"BEGIN IMMEDIATE")', '"BEGIN"); connection.execute("SELECT * FROM sessions").fetchall()'
)
HOLD_TURN = """
import fcntl, sys
lock = open(sys.argv[1] + "-write", "rb+")
fcntl.flock(lock, fcntl.LOCK_EX)
print("holding", flush=True)
sys.stdin.read()
"""
AS_NOBODY = """
import json, os, sys
import msgspec
from pathlib import Path
from holdfast.store.sqlite import diagnosis, migrations, queries
queries.queries(), migrations.steps()
os.setgid(65534); os.setuid(65534)
found = diagnosis.diagnose(Path(sys.argv[1]), "a test")
print(json.dumps(msgspec.to_builtins(found)))
"""


@contextmanager
def holding(program: str, path: Path) -> Iterator[int]:
    """Another process that holds something of the store; gives its id."""
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"holding\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()


def found(
    path: Path,
    limits: Limits = NO_SPACE_NEEDED,
    *,
    system: Path = Path("/proc"),
    factory: Callable[[str], sqlite3.Connection] = onlooker,
    pause: Callable[[float], None] = lambda _: None,
) -> dict[str, Finding]:
    """The findings by their codes."""
    findings = diagnose(path, "a test", limits=limits, system=system, factory=factory, pause=pause)
    assert len({finding.code for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.level == "ok" or finding.hint, finding
    return {finding.code: finding for finding in findings}


def bad(findings: dict[str, Finding]) -> list[str]:
    """The codes of what is not ok."""
    return [code for code, finding in findings.items() if finding.level != "ok"]


def change(path: Path, *statements: str) -> None:
    """Run statements on the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


def test_a_sound_store(path: Path) -> None:
    """A sound store has every finding, each of them ok, and says what durability it gives."""
    findings = found(path)
    assert bad(findings) == []
    assert list(findings) == [
        "store",
        "access",
        "file_system",
        "free_space",
        "schema",
        "durability",
        "erasure",
        "search",
        "integrity",
        "wal",
        "locks",
    ]
    assert "write-ahead log with synchronous=FULL" in findings["durability"].what


def test_it_leaves_the_files_as_they_are(path: Path) -> None:
    """Doctor changes no byte and leaves no file, at rest and beside a log of a killed program."""

    def files() -> dict[str, bytes]:
        names = sorted(file for file in path.parent.iterdir() if not file.name.endswith("-shm"))
        return {file.name: file.read_bytes() for file in names}

    before = files()
    assert bad(found(path)) == []
    assert files() == before
    assert not list(path.parent.glob("*-shm"))
    program = (
        "import holdfast, os, signal, sys; s = holdfast.connect(sys.argv[1]);"
        "s.add_user_message('trip', 'last words'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    before = files()
    assert before[f"{path.name}-wal"]
    assert bad(found(path)) == []
    assert files() == before


def test_which_store_and_where_from(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first finding names the store, and whether an option, the environment or nobody did."""
    assert f"{path}, from --store" in run("doctor", "--store", str(path)).stdout
    monkeypatch.setenv("HOLDFAST_URL", str(path))
    assert f"{path}, from HOLDFAST_URL" in run("doctor").stdout
    monkeypatch.delenv("HOLDFAST_URL")
    default = tmp_path / "data/holdfast/holdfast.db"
    assert f"{default}, from the default" in run("doctor").stdout


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none.db", "there is no such file"),
        ("none/none.db", "there is no folder"),
        (".", "that is a folder"),
        ("empty.db", "the file is empty"),
        ("chats.db/x.db", "there is no folder"),
    ],
)
def test_no_file(path: Path, name: str, what: str) -> None:
    """A file that is not there, or none, is a problem, and is not made."""
    (path.parent / "empty.db").touch()
    before = sorted(path.parent.iterdir())
    finding = found(path.parent / name)["file"]
    assert finding.level == "problem"
    assert what in finding.what
    assert sorted(path.parent.iterdir()) == before


def test_another_programs_database(path: Path) -> None:
    """A database of another program is a problem, and nothing more is said about its inside."""
    other = path.parent / "other.db"
    change(other, "CREATE TABLE t (x)")
    findings = found(other)
    assert findings["schema"].level == "problem"
    assert "another program's database" in findings["schema"].what
    assert "durability" not in findings


def test_no_database(path: Path) -> None:
    """A file that is no database at all is a problem of the same kind."""
    other = path.parent / "notes.txt"
    other.write_text("my notes\n" * 1000)
    finding = found(other)["schema"]
    assert finding.level == "problem"
    assert "no SQLite database" in finding.what


@pytest.mark.parametrize(("version", "words"), [(99, "99 is newer"), (0, "0 never was")])
def test_a_schema_that_is_not_known(path: Path, version: int, words: str) -> None:
    """A schema that the code does not know is a problem."""
    change(path, f"PRAGMA user_version = {version}")
    findings = found(path)
    assert bad(findings) == ["schema"]
    assert findings["schema"].level == "problem"
    assert f"schema version {words}" in findings["schema"].what


def test_an_older_schema(path: Path) -> None:
    """A schema older than the code is a warning that names the command, and the file is left."""
    old = path.with_name("old.db")
    shutil.copyfile(FIXTURES / "schema_001.db", old)
    before = old.read_bytes()
    finding = found(old)["schema"]
    assert finding.level == "warning"
    assert "schema version 1 is older" in finding.what
    assert "holdfast store migrate" in finding.hint
    assert old.read_bytes() == before


def test_a_rollback_journal(path: Path) -> None:
    """A store that lost its write-ahead log is a warning that says what it has instead."""
    change(path, "PRAGMA journal_mode = DELETE")
    findings = found(path)
    assert bad(findings) == ["durability"]
    assert findings["durability"].level == "warning"
    assert "(delete) with synchronous=EXTRA" in findings["durability"].what


def test_a_sqlite_without_fts5(path: Path) -> None:
    """A SQLite that has no full-text index is a warning: searching works, and is slow."""

    class Plain(sqlite3.Connection):
        def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
            return super().execute(statement.replace("'fts5'", "'none'"), *rest)

    def plain(name: str) -> sqlite3.Connection:
        return sqlite3.connect(name, isolation_level=None, factory=Plain)

    findings = found(path, factory=plain)
    assert bad(findings) == ["search"]
    assert findings["search"].level == "warning"
    assert "no FTS5" in findings["search"].what


def test_the_search_index(path: Path) -> None:
    """Doctor says how many messages are in the search index."""
    assert "0 messages" in found(path)["search"].what
    with holdfast.connect(path) as store:
        store.search("rain")
    assert "3 messages" in found(path)["search"].what


def test_durability_that_is_not_given(path: Path) -> None:
    """A SQLite that gives less than synchronous=FULL is a problem."""

    class Careless(sqlite3.Connection):
        def execute(self, statement: str, *_: Any) -> sqlite3.Cursor:
            return super().execute(statement.replace("= FULL", "= NORMAL"))

    def careless(name: str) -> sqlite3.Connection:
        return sqlite3.connect(name, isolation_level=None, factory=Careless)

    finding = found(path, factory=careless)["durability"]
    assert finding.level == "problem"
    assert "does not give synchronous=FULL" in finding.what


def test_too_little_space(path: Path) -> None:
    """Little free space is a problem, measured in bytes and against the database's size."""
    for limits in (
        Limits(free_bytes=1 << 62, free_share=0),
        Limits(free_bytes=0, free_share=1e15),
    ):
        findings = found(path, limits)
        assert bad(findings) == ["free_space"]
        assert findings["free_space"].level == "problem"


def test_a_network_file_system(path: Path, tmp_path: Path) -> None:
    """A network file system is a warning; the deepest mount decides, and spaces are understood."""
    system = tmp_path / "proc"
    system.mkdir()
    (system / "locks").touch()
    (system / "mounts").write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {path.parent} nfs4 rw 0 0\n")
    findings = found(path, system=system)
    assert bad(findings) == ["file_system"]
    assert "(nfs4)" in findings["file_system"].what
    assert findings["file_system"].level == "warning"
    spaced = tmp_path / "my share"
    spaced.mkdir()
    shutil.copy(path, spaced)
    (system / "mounts").write_text(
        f"/dev/sda {path.parent} ext4 rw 0 0\nx {path.parent}/my\\040share 9p rw 0 0\n"
    )
    assert "file_system" not in bad(found(path, system=system))
    assert "(9p)" in found(spaced / path.name, system=system)["file_system"].what


def test_a_system_that_does_not_tell(path: Path, tmp_path: Path) -> None:
    """Without /proc the two findings that need it say so, and name another way."""
    findings = found(path, system=tmp_path / "none")
    assert bad(findings) == []
    assert "does not tell" in findings["file_system"].what
    assert "does not tell" in findings["locks"].what
    assert "lsof" in findings["locks"].hint


@linux
@pytest.mark.parametrize("program", [HOLD_WRITE_LOCK, HOLD_TURN])
def test_a_held_write_lock(path: Path, program: str) -> None:
    """A process that holds the write lock or the turn to write is a warning that names it."""
    with holding(program, path) as pid:
        findings = found(path)
        assert bad(findings) == ["locks"]
        assert findings["locks"].level == "warning"
        assert re.search(rf"python\S* \(process {pid}\) has held", findings["locks"].what)
    assert found(path)["locks"].what == "nobody has the store open"


@linux
def test_a_held_write_lock_in_a_rollback_journal(path: Path) -> None:
    """The same holds where the store has no write-ahead log."""
    change(path, "PRAGMA journal_mode = DELETE")
    with holding(HOLD_WRITE_LOCK, path) as pid:
        finding = found(path)["locks"]
    assert f"(process {pid}) has held" in finding.what


@linux
def test_a_busy_writer_is_no_warning(path: Path) -> None:
    """A process that holds the lock at both looks, while commits go on, is only mentioned."""

    def commit_between(_: float) -> None:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == b"holding\n"

    program = HOLD_WRITE_LOCK.replace(
        "sys.stdin.read()",
        "sys.stdin.readline()\n"
        "connection.execute(\"UPDATE sessions SET title = 'x'\")\n"
        "connection.execute('COMMIT')\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('holding', flush=True)\n"
        "sys.stdin.read()",
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == b"holding\n"
        findings = found(path, pause=commit_between)
        writer.stdin.close()
    assert bad(findings) == []
    assert re.search(rf"writes: python\S* \(process {writer.pid}\)", findings["locks"].what)


@linux
def test_a_writer_that_let_go_is_no_warning(path: Path) -> None:
    """A process that held the lock at the first look only is no warning."""
    with holding(HOLD_WRITE_LOCK, path) as pid:

        def let_go(_: float) -> None:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        assert "locks" not in bad(found(path, pause=let_go))


@linux
def test_it_does_not_name_itself(path: Path) -> None:
    """The process that looks is not among those who have the store open."""
    with holdfast.connect(str(path)) as store:
        store.add_user_message("trip", "opens connections")
        assert str(os.getpid()) in Path("/proc/locks").read_text("utf-8")
        assert found(path)["locks"].what == "nobody has the store open"


@linux
def test_readers_are_named(path: Path) -> None:
    """A process that reads is named, and is no warning by itself."""
    with holding(HOLD_READER, path) as pid:
        findings = found(path)
    assert bad(findings) == []
    assert re.fullmatch(rf"reads: python\S* \(process {pid}\)", findings["locks"].what)


@linux
def test_a_pending_erasure(path: Path) -> None:
    """Bytes of a deleted session that a reader keeps are a warning that names the reader."""
    with holdfast.connect(str(path)) as store:
        store.add_user_message("trip", "in the log")
        with holding(HOLD_READER, path) as pid:
            assert store.delete_session("trip").erasure == "pending"
            findings = found(path)
    assert bad(findings) == ["erasure"]
    assert findings["erasure"].level == "warning"
    assert f"(process {pid})" in findings["erasure"].hint


@linux
def test_a_long_write_ahead_log(path: Path) -> None:
    """A write-ahead log that has grown long is a warning that names the reader who holds it."""
    with holdfast.connect(str(path)) as store, holding(HOLD_READER, path) as pid:
        store.add_user_message("trip", "x" * 10_000)
        limits = Limits(free_bytes=0, wal_bytes=1_000)
        findings = found(path, limits)
    assert bad(findings) == ["wal"]
    assert findings["wal"].level == "warning"
    assert f"(process {pid})" in findings["wal"].hint


def test_a_damaged_file(path: Path) -> None:
    """A page of garbage in the file is a problem of its integrity."""
    with path.open("rb+") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 64)
    finding = found(path)["integrity"]
    assert finding.level == "problem"


def test_a_file_cut_short(path: Path) -> None:
    """A file that lost its end is a finding, too, and never a crash."""
    for size in (4096 * 3 + 7, 4096, 100, 1):
        with path.open("rb+") as file:
            file.truncate(size)
        levels = {finding.level for finding in found(path).values()}
        assert "problem" in levels, size


def test_a_file_locked_against_readers(path: Path) -> None:
    """A file that another program has locked altogether is a finding, not a wait or a crash."""
    change(path, "PRAGMA journal_mode = DELETE")
    program = HOLD_WRITE_LOCK.replace("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE")
    with holding(program, path):
        findings = found(path)
    assert findings["contents"].level == "problem"
    assert "another program holds" in findings["contents"].what


def nobodys_findings(path: Path) -> dict[str, Finding]:
    """What a user without any rights finds."""
    command = [sys.executable, "-c", AS_NOBODY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {finding["code"]: Finding(**finding) for finding in json.loads(done.stdout)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("mode", "code", "what"),
    [
        (0o644, "access", "may not write"),
        (0o600, "access", "may not read"),
    ],
)
def test_a_user_without_rights(path: Path, mode: int, code: str, what: str) -> None:
    """A user who may not write, or not even read the file, is told so."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(shutil.copy(path, folder))
        place.chmod(mode)
        finding = nobodys_findings(place)[code]
        assert finding.level == "problem"
        assert what in finding.what
        assert "uid 65534" in finding.what
        assert finding.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_entered(path: Path) -> None:
    """A file in a folder that this user may not enter is a problem, not a crash."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(shutil.copy(path, folder))
        Path(folder).chmod(0o700)
        finding = nobodys_findings(place)["file"]
    assert finding.level == "problem"
    assert "cannot be reached" in finding.what


def test_memory(run: Run) -> None:
    """A store in memory is said to keep nothing; that is a warning."""
    result = run("doctor", "--store", "memory://", "--json")
    assert result.exit_code == 0
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["level"] == "warning"
    assert "memory" in finding["what"]


def test_exit_codes_and_json(run: Run, path: Path) -> None:
    """Doctor exits with 1 for a problem and with 0 for a warning; its JSON says the same."""
    sound = run("doctor", "--store", str(path))
    assert sound.exit_code == 0
    change(path, "PRAGMA journal_mode = DELETE")
    warned = run("doctor", "--store", str(path), "--json")
    assert warned.exit_code == 0
    assert json.loads(warned.stdout)["ok"] is True
    change(path, "PRAGMA user_version = 99")
    result = run("doctor", "--store", str(path), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["store"], report["source"], report["ok"]) == (str(path), "--store", False)
    (problem,) = [f for f in report["findings"] if f["level"] == "problem"]
    assert sorted(problem) == ["code", "hint", "level", "what"]
    assert problem["code"] == "schema"
    shown = run("doctor", "--store", str(path)).stdout
    assert "→ upgrade Holdfast" in shown
    assert shown.endswith("1 problem.\n")
