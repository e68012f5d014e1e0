"""How far a storm is: counted from the logs while it rages, and told line by line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from holdfast.testing.torture import acknowledgements, follower, reader, rewriter, turnlog


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What happened so far.

    `unanswered` counts the kills that hit a write which was sent and not answered, `replayed` the
    repeated writes that turned out to have happened. `turns_done` counts those whose end was
    acknowledged, `cut` the kills of a worker in the middle of one, `pieces` the text that a
    follower was shown. `failures` says which workers ended by
    themselves, and why. `checking` says that the storm is over and the store being compared.
    """

    elapsed_s: float = 0.0
    acknowledged: int = 0
    saves: int = 0
    rewrites: int = 0
    reads: int = 0
    empty_reads: int = 0
    partial_reads: int = 0
    kills: int = 0
    unanswered: int = 0
    replayed: int = 0
    turns_done: int = 0
    cut: int = 0
    pieces: int = 0
    failures: list[str] = field(default_factory=list)
    checking: bool = False

    def to_json(self) -> str:
        """Return it as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Progress:
        """Return the progress that a line holds."""
        return cls(**json.loads(text))


class LogWatch:
    """Counts what the logs in a folder say, reading only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._acked: dict[Path, int] = {}
        self._lines: dict[Path, int] = {}
        self._done: dict[Path, int] = {}
        self._replayed = 0

    def counted(self) -> Progress:
        """Return what was acknowledged, saved, rewritten and read so far."""
        for suffix in (acknowledgements.SUFFIX, turnlog.SUFFIX, follower.SUFFIX):
            for path in self._folder.glob(f"*{suffix}"):
                self._read_on(path)
        rewrites = self._folder / rewriter.LOG
        if rewrites.exists():
            self._read_on(rewrites)
        reads = sum(map(reader.read_reads, self._folder.glob(f"*{reader.SUFFIX}")), reader.Reads())
        acked = {path.name: count for path, count in self._acked.items()}
        rewritten = acked.pop(rewriter.LOG, 0)
        return Progress(
            acknowledged=sum(acked.values()),
            saves=sum(count for name, count in acked.items() if name.startswith("saver")),
            rewrites=rewritten,
            reads=reads.reads,
            empty_reads=reads.empty,
            partial_reads=reads.partial,
            replayed=self._replayed,
            turns_done=sum(self._done.values()),
            pieces=sum(n for path, n in self._lines.items() if path.suffix == follower.SUFFIX),
        )

    def _read_on(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            news = file.read()
        news = news[: news.rfind(b"\n") + 1]
        self._offsets[path] = self._offsets.get(path, 0) + len(news)
        if path.suffix in (turnlog.SUFFIX, follower.SUFFIX):
            self._lines[path] = self._lines.get(path, 0) + news.count(b"\n")
            self._done[path] = self._done.get(path, 0) + news.count(b"done ")
            return
        self._acked[path] = self._acked.get(path, 0) + news.count(b"acked ")
        self._replayed += news.count(b" replayed\n")
