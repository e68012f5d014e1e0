"""A running turn's state, when what it posted was not written."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.errors import Unavailable
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind
from holdfast.model.turn import Opened, Token
from holdfast.model.usage import TurnStatus, Usage
from holdfast.model.write import Write
from holdfast.store.sources import Sources
from holdfast.store.streaming import RunningTurn


def test_a_refused_flush_loses_neither_text_nor_usage() -> None:
    """What a flush could not write comes with the next commit: its text, and its token counts."""
    posted: list[tuple[Write, Callable[[object], None]]] = []
    sources = Sources()
    live = RunningTurn(
        ("default", "s"),
        Opened(Commit(2, 2), Token(1, 1), "t1", 1, 2, 0),
        ttl_s=30,
        interval_s=0.1,
        post=lambda write, settled: posted.append((write, settled)),
        look=lambda: None,
        stamp=lambda: (sources.message_id, sources.now_text()),
        now=0,
    )
    live.add_text("shown")
    live.add_usage(Usage(call="1.1", input_tokens=3))
    live.beat(0.2)
    ((flush, settled),) = posted
    assert [entry.kind for entry in flush.entries] == [EntryKind.DELTA, EntryKind.USAGE]
    settled(Unavailable("the deadline passed"))
    closing = live.closing(TurnStatus.COMPLETED).entries
    assert [entry.kind for entry in closing] == [
        EntryKind.MESSAGE,
        EntryKind.USAGE,
        EntryKind.TURN,
    ]
    assert b'"shown"' in closing[0].payload
