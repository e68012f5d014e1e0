"""What is measured of each store in a round: one function a contest, all stores by turns in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from benchmarks.contender import Contender
from benchmarks.conversations import encoded, turns
from benchmarks.crew import PeerFailed
from benchmarks.faults import faults
from benchmarks.figures import Ground
from benchmarks.limits import Raw
from benchmarks.peers.protocol import NEWEST, REPLACE

LENGTHS = (0, 1_000, 10_000)
"""Messages that are in a session before it is added to. The last one is also read."""

LAST = 50
SESSIONS = 10_000
SLICES = 4
SLICE_S = 0.3
WARM_UP_S = 0.6
PROCESSES = 4
STORM_TURNS = 100
STORM_S = 20.0
REWRITTEN = 1_000
REWRITING_S = 1.0
READERS = 2
DISK_TURNS = 400
ANY = 1e-9


@dataclass(slots=True)
class _Done:
    """Turns added to one session in a round: those that are there, and those that were timed."""

    there: int = 1
    measured: int = 0
    seconds: float = 0.0


def append(contenders: Sequence[Contender], ground: Ground, raw: Raw) -> None:
    """Add turns to sessions of each length, in slices beside the limit; then read all back."""
    count, limit_s = ground.count(100), SLICE_S * ground.share
    made = {(each.entry.name, length): _Done() for each in contenders for length in LENGTHS}
    raw.warm_up(ground.count(600))
    for each in _running(contenders):
        with each.measured("warming up"):
            each.ask("add", session="warm-up", first=0, count=600, seconds=WARM_UP_S)
            for length in LENGTHS:
                # What a store loads of a session before it adds to it is not adding.
                each.ask("add", session=f"{length}", first=length // 2, count=1, seconds=0)
    for number in range(SLICES):
        raw.measure(count)
        # There and back, so that nobody always follows the same neighbour.
        for each in _running(contenders)[:: 1 if number % 2 == 0 else -1]:
            with each.measured("adding turns"):
                for length in LENGTHS:
                    done = made[each.entry.name, length]
                    answer = each.ask(
                        "add",
                        session=f"{length}",
                        first=length // 2 + done.there,
                        count=count,
                        seconds=limit_s,
                    )
                    done.there += answer["turns"]
                    done.measured += answer["turns"]
                    done.seconds += answer["seconds"]
    for each in _running(contenders):
        with each.measured("reading back what was added"):
            for length in LENGTHS:
                done = made[each.entry.name, length]
                each.ask("check", session=f"{length}", turns=length // 2 + done.there)
                rate = done.measured / done.seconds
                each.note(f"append_{length}", rate / raw.rate)
                each.note(f"turns_a_second_{length}", rate)


def read(contenders: Sequence[Contender], ground: Ground) -> None:
    """Read the longest history whole, and its end."""
    session = f"{LENGTHS[-1]}"
    at_hand = {"session": session, "turns": LENGTHS[-1] // 2}
    for each in _running(contenders):
        with each.measured("reading"):
            whole = each.ask("read", **at_hand, times=ground.count(9), seconds=2 * ground.share)
            end = each.ask(
                "last", **at_hand, count=LAST, times=ground.count(200), seconds=ground.share
            )
            each.note("read_ms", median(whole["took"]) * 1e3)
            each.note("last_ms", median(end["took"]) * 1e3)


def listing(contenders: Sequence[Contender], ground: Ground) -> None:
    """List the newest sessions of many."""
    for each in _running(contenders):
        if NEWEST not in each.lacks:
            with each.measured("listing sessions"):
                found = each.ask(
                    "newest", count=LAST, times=ground.count(200), seconds=ground.share
                )
                each.note("newest_ms", median(found["took"]) * 1e3)


def storm(contenders: Sequence[Contender], ground: Ground, folder: Path) -> None:
    """Have four processes add to one session at once, and count what became of each turn."""
    for each in _running(contenders):
        with each.measured("four processes, one session"):
            _storm(each, ground.count(STORM_TURNS), _made(folder / each.entry.name))


def rewriting(contenders: Sequence[Contender], ground: Ground, folder: Path) -> None:
    """Have one process replace a history while two others read it."""
    for each in _running(contenders):
        if REPLACE not in each.lacks:
            with each.measured("rewriting under readers"):
                _rewrite(each, max(0.4, REWRITING_S * ground.share), folder / each.entry.name)


def costs(contenders: Sequence[Contender], ground: Ground, folder: Path) -> None:
    """Measure what importing takes, and what turns take on the disk once the store is closed."""
    sizes = [len(encoded(turn)) for turn in islice(turns(), DISK_TURNS)]
    for each in _running(contenders):
        with each.measured("measuring what it costs"):
            bare: list[float] = []
            with_it: list[float] = []
            for _ in range(ground.count(3)):
                bare.append(each.importing_s("pass"))
                with_it.append(each.importing_s(each.facts["importing"]))
            each.note("import_ms", (median(with_it) - median(bare)) * 1e3)
            own = _made(folder / each.entry.name)
            each.ask("open", folder=str(own))
            added = each.ask("add", session="disk", first=0, count=DISK_TURNS, seconds=60)["turns"]
            each.ask("check", session="disk", turns=added)
            each.ask("close")
            used = sum(file.stat().st_size for file in own.rglob("*") if file.is_file())
            each.note("disk", used / sum(sizes[:added]))
            if added < DISK_TURNS:
                each.remark(f"bytes on disk after {added} turns, in the time there was")


def _storm(each: Contender, count: int, folder: Path) -> None:
    workers = [each.worker(number) for number in range(PROCESSES)]
    workers[0].ask("open", folder=str(folder))
    workers[0].ask("fill", session="shared", count=1)
    for worker in workers[1:]:
        worker.ask("open", folder=str(folder))
    for number, worker in enumerate(workers):
        worker.tell("storm", session="shared", process=number, count=count, seconds=STORM_S)
    answers = [worker.answer() for worker in workers]
    for worker in workers[1:]:
        worker.ask("close")
    found = [(mark, role) for mark, role in workers[0].ask("marks", session="shared")["marks"]]
    acknowledged = [f"{p}:{n}" for p, answer in enumerate(answers) for n in answer["acknowledged"]]
    refused = [f"{p}:{n}" for p, answer in enumerate(answers) for n in answer["refused"]]
    counted = faults(acknowledged, refused, found)
    each.note("storm_turns", len(acknowledged) + len(refused))
    for name in ("lost", "doubled", "apart", "refused", "halves"):
        each.note(f"storm_{name}", getattr(counted, name))
    each.note("storm_faults", counted.together)
    each.note("storm_longest_ms", max(answer["longest"] for answer in answers) * 1e3)
    errors = sum((Counter(answer["errors"]) for answer in answers), Counter[str]())
    if errors:
        kinds = Counter[str]()
        for error, times in errors.items():
            kinds[error.partition(":")[0]] += times
        each.remark(f"refused with {', '.join(sorted(kinds))}")


def _rewrite(each: Contender, seconds: float, folder: Path) -> None:
    writer, *readers = (each.worker(number) for number in range(1 + READERS))
    at_hand = {"session": "rewritten", "turns": REWRITTEN // 2}
    folder.mkdir(parents=True)
    writer.ask("open", folder=str(folder))
    writer.ask("rewrite", **at_hand, seconds=ANY)
    for reader in readers:
        reader.ask("open", folder=str(folder))
    for reader in readers:
        reader.tell("watch", **at_hand, seconds=seconds)
    writer.tell("rewrite", **at_hand, seconds=seconds)
    done = writer.answer()
    seen = Counter[str]()
    for reader in readers:
        seen.update(reader.answer())
        reader.ask("close")
    if not done["rewrites"]:
        raise PeerFailed("no rewrite succeeded")
    each.note("rewrites_a_second", done["rewrites"] / done["seconds"])
    each.note("rewrite_errors", done["errors"] + seen["errors"])
    each.note("reads", seen["reads"])
    each.note("reads_empty", 100 * seen["empty"] / seen["reads"])
    each.note("reads_partial", 100 * seen["partial"] / seen["reads"])


def _running(contenders: Sequence[Contender]) -> list[Contender]:
    return [each for each in contenders if each.failure is None]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
