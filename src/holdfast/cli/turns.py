"""A session's turns as its log tells of them: what each came to, how long it took, what it used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from holdfast.cli.escaping import visible
from holdfast.cli.printing import age, iso, plural
from holdfast.model.entry import Entry, TurnEntry, UsageEntry
from holdfast.model.usage import TurnStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

    from holdfast.store.leases import Lease

# Together at most 80 wide. What may be long stands on a line of its own below.
_HEADINGS = ("turn", "status", "started", "took", "tokens in", "out")
_RIGHT = frozenset(("took", "tokens in", "out"))
_GAP = "  "
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")
_MINUTE = 60
_OVER = "lease over"


@dataclass(slots=True)
class SeenTurn:
    """One turn, as far as it has come. Tokens are those of all attempts.

    `unknown` counts the model calls that ended without telling what they used. `lease_left_s` is
    for how many seconds the lease of a turn that runs still holds, as far as that was looked for.
    """

    id: str
    started: datetime
    status: TurnStatus = TurnStatus.RUNNING
    attempts: int = 1
    ended: datetime | None = None
    worker: str | None = None
    reason: str | None = None
    error: str | None = None
    lease_left_s: float | None = None
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TOKENS, 0))
    calls: int = 0
    unknown: int = 0

    @property
    def is_dead(self) -> bool:
        """Whether its worker is gone, and nobody has closed it yet."""
        return self.lease_left_s is not None and self.lease_left_s <= 0

    @property
    def seconds(self) -> float | None:
        """How long it took, with all attempts and the time between; `None` while it runs."""
        return None if self.ended is None else (self.ended - self.started).total_seconds()


class Turns:
    """The turns of one log, in the order in which they began."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.of: dict[str, SeenTurn] = {}
        for entry in entries:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        """Learn what an entry says of a turn."""
        if isinstance(entry, TurnEntry):
            turn = self._turn(entry)
            turn.status, turn.reason, turn.error = entry.status, entry.reason, entry.error
            turn.attempts = max(turn.attempts, entry.attempt)
            turn.worker = entry.worker or turn.worker
            turn.ended = None if entry.status is TurnStatus.RUNNING else entry.at
        elif isinstance(entry, UsageEntry):
            turn = self._turn(entry)
            turn.calls += 1
            turn.unknown += entry.usage.unknown
            for name in _TOKENS:
                turn.tokens[name] += getattr(entry.usage, name)

    def look_at(self, lease: Lease | None) -> None:
        """Learn whether the worker of the turn that runs holds its lease; the log does not say."""
        turn = None if lease is None else self.of.get(lease.turn)
        if lease is not None and turn is not None and turn.status is TurnStatus.RUNNING:
            turn.lease_left_s = lease.left_s

    def _turn(self, entry: TurnEntry | UsageEntry) -> SeenTurn:
        return self.of.setdefault(entry.turn, SeenTurn(entry.turn, entry.at))


def turn_values(turn: SeenTurn) -> dict[str, Any]:
    """Return a turn for programs; times are ISO 8601 in UTC."""
    return {
        "id": turn.id,
        "status": turn.status.value,
        "attempts": turn.attempts,
        "started_at": iso(turn.started),
        "ended_at": None if turn.ended is None else iso(turn.ended),
        "seconds": turn.seconds,
        "worker": turn.worker,
        "reason": turn.reason,
        "error": turn.error,
        "lease_left_s": turn.lease_left_s,
        **turn.tokens,
        "calls": turn.calls,
        "unknown_calls": turn.unknown,
    }


def turn_lines(turns: Iterable[SeenTurn]) -> Iterator[RenderableType]:
    """Yield a table of turns, for people; below a turn, what is out of the ordinary about it."""
    from rich.padding import Padding
    from rich.text import Text

    shown = list(turns)
    rows = [_HEADINGS, *(_cells(turn) for turn in shown)]
    columns = [n for n in range(len(_HEADINGS)) if any(row[n] for row in rows[1:])]
    widths = {n: max(len(row[n]) for row in rows) for n in columns}

    def line(row: tuple[str, ...]) -> str:
        return _GAP.join(
            row[n].rjust(widths[n]) if _HEADINGS[n] in _RIGHT else row[n].ljust(widths[n])
            for n in columns
        )

    yield Text(line(tuple(heading.upper() for heading in _HEADINGS)), style="bold")
    for turn, row in zip(shown, rows[1:], strict=True):
        text = Text(line(row))
        text.stylize("cyan", 0, len(row[0]))
        yield text
        about = _about(turn)
        if about:
            yield Padding(Text(about, style="dim", overflow="fold"), (0, 0, 0, 2))


def _cells(turn: SeenTurn) -> tuple[str, ...]:
    tokens = turn.tokens if turn.calls else {}
    return (
        visible(turn.id),
        _OVER if turn.is_dead else turn.status.value,
        age(turn.started),
        "" if turn.seconds is None else duration(turn.seconds),
        f"{tokens['input_tokens']:,}" if tokens else "",
        f"{tokens['output_tokens']:,}" if tokens else "",
    )


def _about(turn: SeenTurn) -> str:
    """Return why a turn ended as it did, or who runs it; nothing of one that just went well."""
    facts = [f"attempt {turn.attempts}"] if turn.attempts > 1 else []
    if turn.status is not TurnStatus.COMPLETED and turn.worker:
        facts.append(f"on {visible(turn.worker)}")
    if turn.is_dead:
        since = f" since {duration(-turn.lease_left_s)}" if turn.lease_left_s else ""
        facts.append(f"{_OVER}{since}, closed by the next turn or by holdfast store recover")
    why = turn.error or turn.reason
    if why:
        facts.append(visible(why))
    if turn.unknown:
        facts.append(f"{plural(turn.unknown, 'call')} did not tell its tokens")
    return ", ".join(facts)


def turn_in_words(turn: SeenTurn, entry: TurnEntry) -> str:
    """Return what an entry says of a turn as a line, harmless for a terminal."""
    name = f"turn {visible(entry.turn)}"
    if entry.status is TurnStatus.RUNNING:
        again = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
        worker = f" on {visible(entry.worker)}" if entry.worker else ""
        return f"{name} runs{again}{worker}"
    why = entry.error or entry.reason
    facts = [f"{name} {entry.status.value}" + (f" ({visible(why)})" if why else "")]
    if turn.seconds is not None:
        facts.append(f"after {duration(turn.seconds)}")
    if turn.calls:
        facts.append(f"tokens: {tokens_in_words(turn)}")
    return ", ".join(facts)


def tokens_in_words(turn: SeenTurn) -> str:
    """Return what went in and came out, and how many calls did not tell."""
    if not turn.calls:
        return ""
    told = f"{turn.tokens['input_tokens']:,} in, {turn.tokens['output_tokens']:,} out"
    return f"{told}, {plural(turn.unknown, 'call')} unknown" if turn.unknown else told


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
