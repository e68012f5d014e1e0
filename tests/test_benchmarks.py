"""The benchmark's harness: it measures what really happens, and says so when nothing does."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import benchmarks.__main__ as bench
import pytest
from benchmarks.comparison import PEERS, Comparison
from benchmarks.contender import Entry
from benchmarks.crew import ROOT, PeerFailed, Program, Worker
from benchmarks.environments import NotInstalled, environment
from benchmarks.faults import Faults, faults
from benchmarks.plot import Bar, Panel, svg
from benchmarks.postgres import PEERS as SERVER_PEERS
from benchmarks.postgres import Competition
from click.testing import CliRunner

FAKE = '''
"""A peer of a few lines: a file for each session, a line for each message."""

import json
import os

from benchmarks.peers.protocol import About, Said

ABOUT = About("Fake", "holdfast", "import json", "it appends lines")
ROLES = ("user", "assistant")


class Fake:
    def __init__(self, folder):
        self.folder = folder

    async def add_turn(self, session, turn):
        print("peers print, also to standard output")
        with (self.folder / session).open("ab", buffering=0) as file:
            file.write(lines([turn]))

    async def fill(self, session, turns):
        await self.replace(session, turns)

    async def read_all(self, session):
        return [json.loads(line) for line in (self.folder / session).read_text().splitlines()]

    async def read_last(self, session, count):
        return (await self.read_all(session))[-count:]

    def said(self, found):
        return [Said(*pair) for pair in found]

    async def replace(self, session, turns):
        (self.folder / f"{session}.{os.getpid()}.new").write_bytes(lines(turns))
        (self.folder / f"{session}.{os.getpid()}.new").replace(self.folder / session)

    async def newest(self, count):
        by_age = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [path.name for path in by_age[-count:]]

    def forget(self, session):
        pass

    async def durability(self):
        return "files, no fsync"

    async def close(self):
        pass


def lines(turns):
    pairs = (pair for turn in turns for pair in zip(ROLES, turn))
    return b"".join(json.dumps(pair).encode() + b"\\n" for pair in pairs)


async def opened(folder):
    return Fake(folder)
'''


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Workers for whatever `fake_peer.py` in the test's folder holds; at first, the fake peer."""
    (tmp_path / "fake_peer.py").write_text(FAKE, "utf-8")
    texts = tmp_path / "turns.json"
    texts.write_text(json.dumps([["Who?", "I."], ["Where?", "Here."], ["When?", "Now."]]), "utf-8")
    (tmp_path / "store").mkdir()
    return Program(Path(sys.executable), "fake_peer", texts, tmp_path, (ROOT, tmp_path))


@pytest.fixture
def crew(program: Program) -> Iterator[list[Worker]]:
    """Two workers on one store."""
    workers = [Worker(program, number) for number in range(2)]
    try:
        for worker in workers:
            worker.ask("open", folder=str(program.scratch / "store"))
        yield workers
    finally:
        for worker in workers:
            worker.end()


def planted(program: Program, old: str, new: str) -> Worker:
    """Starts a worker whose peer has a fault, on the store."""
    assert old in FAKE
    (program.scratch / "fake_peer.py").write_text(FAKE.replace(old, new), "utf-8")
    worker = Worker(program, 9)
    worker.ask("open", folder=str(program.scratch / "store"))
    return worker


def test_worker_measures_and_checks(crew: list[Worker]) -> None:
    """Turns that were added are timed, are there, and are read whole, at their end and by list."""
    worker = crew[0]
    assert worker.ask("hello")["title"] == "Fake"
    assert worker.ask("durability") == {"durability": "files, no fsync"}
    worker.ask("fill", session="one", count=4)
    added = worker.ask("add", session="one", first=4, count=3, seconds=60)
    assert added["turns"] == 3
    assert 0 < added["longest"] <= added["seconds"]
    worker.ask("check", session="one", turns=7)
    assert len(worker.ask("read", session="one", turns=7, times=3, seconds=60)["took"]) == 3
    worker.ask("last", session="one", turns=7, count=4, times=1, seconds=60)
    worker.ask("make_sessions", count=5, seconds=60)
    assert len(worker.ask("newest", count=5, times=2, seconds=60)["took"]) == 2


def test_time_ends_adding(crew: list[Worker]) -> None:
    """A peer that is slow adds as many turns as the time allows, and at least one."""
    added = crew[0].ask("add", session="one", first=0, count=100_000, seconds=0.05)
    assert 1 < added["turns"] < 100_000
    assert crew[0].ask("add", session="two", first=0, count=9, seconds=0)["turns"] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("file.write(lines([turn]))", "pass"),
        ("file.write(lines([turn]))", "file.write(lines([turn, turn]))"),
        ("file.write(lines([turn]))", "file.write(lines([turn[::-1]]))"),
    ],
    ids=["nothing is saved", "everything is doubled", "texts are exchanged"],
)
def test_pretended_writes_are_caught(program: Program, old: str, new: str) -> None:
    """A peer that does not hold what was added fails, so that no figure stands for nothing."""
    worker = planted(program, old, new)
    try:
        worker.ask("add", session="one", first=0, count=3, seconds=60)
        with pytest.raises(PeerFailed, match="NotThere: 6 messages should be there"):
            worker.ask("check", session="one", turns=3)
    finally:
        worker.end()


def test_storm_is_counted(crew: list[Worker]) -> None:
    """Turns of two processes are known by their marks, and none of an honest peer is harmed."""
    for number, worker in enumerate(crew):
        worker.tell("storm", session="shared", process=number, count=50, seconds=60)
    answers = [worker.answer() for worker in crew]
    assert [answer["acknowledged"] for answer in answers] == [list(range(50))] * 2
    marks = [(mark, role) for mark, role in crew[0].ask("marks", session="shared")["marks"]]
    acknowledged = [f"{process}:{number}" for process in (0, 1) for number in range(50)]
    assert faults(acknowledged, [], marks) == Faults(0, 0, 0, 0, 0)


def test_refusals_are_counted(program: Program) -> None:
    """A turn that raises is no acknowledged one, and its error is told."""
    worker = planted(program, "file.write(lines([turn]))", 'raise OSError("locked")')
    try:
        answer = worker.ask("storm", session="shared", process=0, count=3, seconds=60)
    finally:
        worker.end()
    assert (answer["acknowledged"], answer["refused"]) == ([], [0, 1, 2])
    assert answer["errors"] == {"OSError: locked": 3}


def test_faults_are_told_apart() -> None:
    """Each kind of harm is counted as itself: lost, doubled, apart, refused, half there."""
    found = [
        *(("a", "user"), ("a", "assistant")),
        *(("b", "user"), ("c", "user"), ("b", "assistant"), ("c", "assistant")),
        ("d", "user"),
        *(("a", "user"), ("a", "assistant")),
        ("f", "user"),
    ]
    counted = faults(["a", "b", "c", "d", "e"], ["f", "g"], found)
    assert counted == Faults(lost=3, doubled=2, apart=2, refused=2, halves=1)
    assert counted.together == 10


def test_atomic_replacing_is_seen_whole(crew: list[Worker]) -> None:
    """Readers of a peer that replaces a history in one step see no empty and no partial one."""
    assert watched(crew[0], crew[1]) == (0, 0)


def test_planted_gap_is_seen(program: Program, crew: list[Worker]) -> None:
    """Readers of a peer that clears a history before it writes it again see it empty."""
    old = '(self.folder / f"{session}.{os.getpid()}.new").write_bytes(lines(turns))'
    writer = planted(program, old, f"(self.folder / session).write_bytes(b'')\n        {old}")
    try:
        empty, partial_ = watched(writer, crew[1])
    finally:
        writer.end()
    assert empty > 0
    assert partial_ == 0


def watched(writer: Worker, reader: Worker) -> tuple[int, int]:
    """Has one worker rewrite while the other reads; returns the empty and the partial reads."""
    at_hand = {"session": "rewritten", "turns": 200}
    writer.ask("rewrite", **at_hand, seconds=1e-9)
    reader.tell("watch", **at_hand, seconds=0.4)
    writer.tell("rewrite", **at_hand, seconds=0.4)
    assert writer.answer()["rewrites"] > 1
    seen = reader.answer()
    assert seen["reads"] > 1
    assert seen["errors"] == 0
    return seen["empty"], seen["partial"]


def test_dead_worker_is_reported(program: Program) -> None:
    """A peer whose process dies fails with what it said last."""
    worker = planted(program, "file.write(lines([turn]))", "print('no'); os._exit(3)")
    try:
        with pytest.raises(PeerFailed, match=r"ended with 3: (?s:.*)no"):
            worker.ask("add", session="one", first=0, count=1, seconds=60)
    finally:
        worker.end()


def test_silent_worker_is_reported(program: Program) -> None:
    """A peer that does not answer in time fails, and its process is ended."""
    worker = planted(program, "file.write(lines([turn]))", "import time; time.sleep(600)")
    try:
        with pytest.raises(PeerFailed, match=r"no answer within 0\.1 s"):
            worker.ask("add", 0.1, session="one", first=0, count=1, seconds=60)
    finally:
        worker.end()


def test_missing_package_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that cannot be made says why, and is not taken for a made one next time."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirements = tmp_path / "peer.txt"
    requirements.write_text("no-such-package==1.0\n", "utf-8")
    for _ in range(2):
        with pytest.raises(NotInstalled, match="no-such-package"):
            environment(requirements, tmp_path / "peer")


def test_peer_that_cannot_be_installed_fails_the_run(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are measured, the failure is shown and written down, and the run ends with 1."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirements = tmp_path / "broken.txt"
    requirements.write_text("no-such-package==1.0\n", "utf-8")
    peers = (Entry("fake", "fake_peer", None), Entry("broken", "fake_peer", requirements))
    compare = partial(Comparison, environments=tmp_path / "envs", search=program.search)
    monkeypatch.setattr(bench, "PEERS", peers)
    monkeypatch.setattr(bench, "Comparison", compare)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "QUICK_SHARE", 0.02)
    done = CliRunner().invoke(bench.main, ["--quick", "--only", "peers", "--rounds", "1"])
    assert done.exit_code == 1, done.output
    assert "broken failed: installing" in done.output
    written = (tmp_path / "results/partial.md").read_text("utf-8")
    assert re.search(r"\*\*broken failed:\*\* installing: .*no-such-package", written)
    assert re.search(r"\| broken \| failed \| failed \|", written)
    assert re.search(r"\| Fake \| \d", written)
    found = json.loads((tmp_path / "results/partial.json").read_text("utf-8"))
    assert [peer["name"] for peer in found["peers"]] == ["holdfast", "fake", "broken"]
    assert [bool(peer["failure"]) for peer in found["peers"]] == [False, False, True]
    ET.parse(tmp_path / "results/partial.svg")


SERVER_FAKE = '''
"""A peer of a few lines, as if it were on a server: lists in memory."""

from benchmarks.peers.protocol import About, Said

ABOUT = About("Fake", "holdfast", "import json", "it appends to lists")


class Fake:
    def __init__(self):
        self.sessions = {}

    async def add_turn(self, session, turn):
        self.add_turn_in_thread(session, turn)

    def add_turn_in_thread(self, session, turn):
        self.sessions.setdefault(session, []).append(turn)

    async def fill(self, session, turns):
        self.sessions[session] = list(turns)

    async def read_all(self, session):
        return self.sessions[session]

    def said(self, found):
        return [Said(*pair) for turn in found for pair in zip(("user", "assistant"), turn)]

    def forget(self, session):
        pass

    async def durability(self):
        return "memory"

    async def close(self):
        pass


async def connected(url):
    return Fake()
'''


def test_crowds_are_counted_and_checked(program: Program) -> None:
    """Turns of threads and of tasks are counted without the first ones, and all are there."""
    (program.scratch / "fake_peer.py").write_text(SERVER_FAKE, "utf-8")
    worker = Worker(program, 0)
    try:
        worker.ask("connect", url="postgresql://nowhere")
        for kind in ("threads", "tasks"):
            at_hand = {"kind": kind, "session": kind, "callers": 3, "count": 5}
            assert worker.ask("crowd", **at_hand, seconds=60)["turns"] == 3 * 4
            at_hand["session"] = f"{kind}-again"
            assert worker.ask("crowd", **at_hand, seconds=0)["turns"] == 3
    finally:
        worker.end()


def test_crowd_that_loses_turns_fails(program: Program) -> None:
    """A peer that does not hold what callers added at the same time has failed."""
    broken = SERVER_FAKE.replace(".append(turn)", "[:] = [turn]")
    (program.scratch / "fake_peer.py").write_text(broken, "utf-8")
    worker = Worker(program, 0)
    try:
        worker.ask("connect", url="postgresql://nowhere")
        with pytest.raises(PeerFailed, match="NotThere"):
            worker.ask("crowd", kind="tasks", session="s", callers=2, count=3, seconds=60)
    finally:
        worker.end()


def test_postgres_is_measured_beside_peers(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server of its own Holdfast is measured beside the others, and the tables are written."""
    (program.scratch / "fake_peer.py").write_text(SERVER_FAKE, "utf-8")
    peers = (Entry("fake", "fake_peer", None),)
    compete = partial(Competition, environments=tmp_path / "envs", search=program.search)
    monkeypatch.setattr(bench, "SERVER_PEERS", peers)
    monkeypatch.setattr(bench, "Competition", compete)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "QUICK_SHARE", 0.02)
    done = CliRunner().invoke(bench.main, ["--quick", "--only", "postgres", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    written = (tmp_path / "results/partial.md").read_text("utf-8")
    assert re.search(r"\| PostgreSQL, one caller \| \d", written)
    assert re.search(r"\| Holdfast on PostgreSQL \| \d", written)
    assert "fsync on, synchronous_commit on" in written


def test_every_peer_is_pinned() -> None:
    """Each peer has a module and a list that names one version of each package, and no host."""
    for entry in (*PEERS, *SERVER_PEERS):
        assert entry.requirements is not None
        assert entry.requirements.with_suffix(".py").is_file()
        for line in entry.requirements.read_text("utf-8").splitlines():
            assert line.startswith("# ") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)


def test_picture_is_well_formed() -> None:
    """The plot is XML whatever is drawn: spread, zero, nothing, and text that needs escaping."""
    bars = [
        Bar("one & <two>", (0.001, 0.4, 1.7), is_ours=True),
        Bar("zero", (0.0,)),
        Bar("failed", ()),
    ]
    panels = [Panel("log", "x", bars, logarithmic=True), Panel("linear", "ms", bars)]
    drawn = ET.fromstring(svg("Title", "What is shown", panels, ["A caption"]))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in drawn.iter(f"{space}text")]
    assert drawn.findtext(f"{space}title") == "Title"
    assert {"one & <two>", "failed", "A caption", "log", "linear"} <= set(texts)
    assert len(drawn.findall(f"{space}path")) == 2


def test_picture_of_nothing_is_well_formed() -> None:
    """A run in which everybody failed still gives a picture that says so."""
    panels = [Panel("log", "x", [Bar("a", ())], logarithmic=True), Panel("b", "c", [Bar("d", ())])]
    ET.fromstring(svg("Title", "Nothing", panels, []))
