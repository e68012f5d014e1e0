"""What the judge says of small recordings: the allowed passes, and the rest is named."""

from __future__ import annotations

from holdfast.testing.checking import Rule
from holdfast.testing.checking.operation import (
    NOT_THERE,
    THERE,
    Add,
    Clear,
    Committed,
    Delete,
    LogEntry,
    LogSeen,
    Place,
    Read,
    ReadLog,
    Refused,
    Save,
    Seen,
    Unknown,
)
from tests.checking.recordings import START, Script, broken


def at(number: int, **more: int) -> Committed:
    """Return the acknowledgement of a revision."""
    return Committed(START + number, START + number, **more)  # type: ignore[arg-type] # counts only


def shown(number: int, *messages: str) -> Seen:
    """Return a read at a revision."""
    return Seen(START + number, messages)


def test_writes_at_the_same_time_may_stand_in_any_order() -> None:
    """Two writes that overlap may be ordered either way, and a read between may miss both."""
    script = Script()
    script.did("a", (10, 50), Add(("x",)), at(2))
    script.did("b", (20, 40), Add(("y",)), at(1))
    script.did("c", (25, 45), Read(), shown(1, "y"))
    script.did("d", (21, 47), Read(), Seen(0, ()))
    script.entry(1, "y")
    script.entry(2, "x")
    assert broken(script.finished()) == set()


def test_a_write_that_came_later_may_not_stand_before() -> None:
    """A write that began after another was acknowledged stands behind it."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(2))
    script.did("b", (30, 40), Add(("y",)), at(1))
    script.entry(1, "y")
    script.entry(2, "x")
    assert broken(script.finished()) == {Rule.REAL_TIME}


def test_an_unknown_write_may_be_missing_or_come_late() -> None:
    """A write without an answer happened once, later than its client heard, or not at all."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), Unknown())
    script.did("b", (30, 40), Add(("y",)), at(1))
    script.did("c", (50, 60), Add(("z",)), Unknown())
    script.entry(1, "y")
    script.entry(2, "x")
    assert broken(script.finished()) == set()


def test_an_unknown_write_may_not_come_early() -> None:
    """A write without an answer cannot stand before what was acknowledged when it began."""
    script = Script()
    script.did("b", (10, 20), Add(("y",)), at(2))
    script.did("a", (30, 40), Add(("x",)), Unknown())
    script.entry(1, "x")
    script.entry(2, "y")
    assert broken(script.finished()) == {Rule.REAL_TIME}


def test_a_write_must_be_whole() -> None:
    """A write without an answer that left half of its messages is not 0 and not 1 times."""
    script = Script()
    script.did("a", (10, 20), Add(("x", "y")), Unknown())
    script.entry(1, "x")
    assert broken(script.finished()) == {Rule.WHOLE}


def test_a_failed_write_leaves_nothing() -> None:
    """A refused write whose message is in the log broke its word."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), Refused("deadline"))
    script.entry(1, "x")
    assert broken(script.finished()) == {Rule.REFUSED}


def test_a_key_that_was_sent_again() -> None:
    """An unanswered keyed write that is sent again is a replay if it had happened."""
    script = Script()
    script.did("a", (10, 20), Add(("x",), None, "k"), Unknown())
    script.did("a", (30, 40), Add(("x",), None, "k"), at(1, replayed=True))
    script.entry(1, "x")
    assert broken(script.finished()) == set()


def test_a_key_that_took_effect_twice() -> None:
    """A key that is new after it was acknowledged is a broken key, and so is its second effect."""
    script = Script()
    script.did("a", (10, 20), Add(("x",), None, "k"), at(1))
    script.did("a", (30, 40), Add(("x",), None, "k"), at(2))
    script.entry(1, "x")
    script.entry(2, "x")
    assert broken(script.finished()) == {Rule.KEY}


def test_two_clients_that_use_one_key() -> None:
    """Of two writes with one key, one takes effect, and the other is told of it."""
    script = Script()
    script.did("a", (10, 40), Add(("x",), None, "k"), at(1))
    script.did("b", (20, 30), Add(("y",), None, "k"), at(1, replayed=True))
    script.entry(1, "x")
    assert broken(script.finished()) == set()


def test_a_save_that_begins_with_its_base_is_an_append() -> None:
    """Two clients that load, add and save both keep their messages."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("a", (30, 60), Save(("x", "y"), START + 1), at(2))
    script.did("b", (30, 60), Save(("x", "z"), START + 1), at(3))
    script.entry(1, "x")
    script.entry(2, "y")
    script.entry(3, "z")
    assert broken(script.finished()) == set()


def _rewritten(kept: tuple[str, ...], count: int) -> Script:
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("b", (30, 40), Add(("y",)), at(2))
    script.did("a", (30, 60), Save(("s",), START + 1), at(5, kept=count, removed=2 - count))
    script.entry(1, "x")
    script.entry(2, "y")
    script.reset(3, 5, "rewrite", 1, 2)
    script.entry(4, "s")
    script.entry(5, *kept)
    return script


def test_a_rewrite_keeps_what_is_newer_than_its_base() -> None:
    """A rewrite is its list and whatever was added since its base."""
    assert broken(_rewritten(("y",), 1).finished(("s", "y"))) == set()


def test_a_rewrite_that_loses_what_is_newer() -> None:
    """A rewrite that drops a message that was added since its base is named."""
    assert Rule.SAVE in broken(_rewritten((), 0).finished(("s",)))


def test_a_second_rewrite_of_one_base() -> None:
    """Of two rewrites of one base the later may not be acknowledged."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("a", (30, 40), Save(("s",), START + 1), at(3, removed=1))
    script.did("b", (30, 60), Save(("t",), START + 1), at(5, removed=1))
    script.entry(1, "x")
    script.reset(2, 3, "rewrite", 1, 1)
    script.entry(3, "s")
    script.reset(4, 5, "rewrite", 1, 1)
    script.entry(5, "t")
    assert broken(script.finished(("t",))) == {Rule.SAVE}


def test_a_read_inside_a_rewrite() -> None:
    """A read of the revision of a reset, with nothing in it, was never a state."""
    script = _rewritten(("y",), 1)
    script.did("c", (30, 60), Read(), shown(3))
    assert broken(script.finished(("s", "y"))) == {Rule.READ}


def test_a_precondition_that_did_not_hold() -> None:
    """An acknowledged `expected_revision` was the history's at the commit."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("b", (30, 40), Add(("y",)), at(2))
    script.did("a", (30, 60), Add(("z",), START + 1), at(3))
    for number, text in enumerate("xyz", 1):
        script.entry(number, text)
    assert broken(script.finished()) == {Rule.PRECONDITION}


def test_clears_are_matched_by_their_time() -> None:
    """A clear has a reset of its own, and a read after it does not show what was before."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("b", (30, 40), Clear(), THERE)
    script.did("a", (50, 60), Add(("y",)), at(3))
    script.entry(1, "x")
    script.reset(2, 2, "clear", None, 1)
    script.entry(3, "y")
    assert broken(script.finished(("y",))) == set()
    script.did("c", (45, 48), Read(), shown(1, "x"))
    assert broken(script.operations) == {Rule.REAL_TIME}


def test_a_clear_that_did_nothing() -> None:
    """An acknowledged clear without a reset is named."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("b", (30, 40), Clear(), THERE)
    script.entry(1, "x")
    assert broken(script.finished()) == {Rule.CLEAR}


def _recreated() -> Script:
    """A session that was read, deleted, and written again under the same id."""
    script = Script()
    old = 4 << 32
    script.did("a", (10, 20), Add(("old",)), Committed(old + 1, old + 1))
    script.did("a", (22, 24), ReadLog(), LogSeen((LogEntry(old + 1, "message", ("old",)),)))
    script.did("b", (30, 40), Delete(), THERE)
    script.did("c", (41, 45), Read(), Seen(0, ()))
    script.did("a", (50, 60), Add(("new",)), at(1))
    script.entry(1, "new")
    return script


def test_a_session_may_be_deleted_and_begin_again() -> None:
    """A deletion explains that the messages before it are gone."""
    assert broken(_recreated().finished()) == set()


def test_what_was_deleted_may_not_be_read() -> None:
    """A read after the deletion that shows what was before it is named."""
    script = _recreated()
    script.did("d", (42, 44), Read(), Seen((4 << 32) + 1, ("old",)))
    assert Rule.DELETION in broken(script.finished())


def test_an_old_base_fits_no_new_session() -> None:
    """A save on the base of a deleted session may not be acknowledged."""
    script = _recreated()
    script.did("d", (70, 80), Save(("old", "more"), (4 << 32) + 1), at(2))
    script.entry(2, "more")
    assert broken(script.finished()) == {Rule.DELETION}


def test_a_session_does_not_go_by_itself() -> None:
    """A session whose messages were acknowledged and that is not found any more was lost."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.did("b", (30, 40), Read(), Seen(0, ()))
    script.did("c", (30, 40), Delete(), NOT_THERE)
    script.entry(1, "x")
    assert broken(script.finished()) == {Rule.DELETION}


def test_a_message_of_another_session() -> None:
    """A message that was sent to another tenant's session of the same name is a leak."""
    script, other = Script(), Script(Place("south", "one"))
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.entry(1, "x")
    other.did("b", (10, 20), Add(("y",)), at(1))
    other.entry(1, "y")
    other.entry(2, "x")
    assert broken(script.finished(), other.finished()) == {Rule.LEAK}


def test_a_message_that_nobody_sent() -> None:
    """A message that no operation handed over is a phantom."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    script.entry(1, "x")
    script.entry(2, "nobody")
    assert broken(script.finished()) == {Rule.PHANTOM}


def test_a_conflict_without_a_reason() -> None:
    """A conflict may not name the very revision that was expected."""
    script = Script()
    script.did("a", (10, 20), Add(("x",)), at(1))
    refused = Refused("conflict", START + 1, START + 1)
    script.did("b", (30, 40), Add(("y",), START + 1), refused)
    script.entry(1, "x")
    assert broken(script.finished()) == {Rule.REFUSAL}
