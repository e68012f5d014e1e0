"""What a turn that is repeated finds once the history was rewritten, and then purged."""

from __future__ import annotations

from contextlib import suppress

import pytest

import holdfast

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize("purged", [False, True])
def test_a_failed_turn_whose_past_was_purged(url: str, *, purged: bool) -> None:
    """A repeated turn knows the exchanges that it had finished until they were purged: then none.

    Purging destroys what was said; that a failed turn could be repeated some day keeps nothing.
    """
    with holdfast.connect(url) as store:
        with suppress(RuntimeError), store.turn("ada", "How is Paris?", key="k") as turn:
            turn.add_message("assistant", None, tool_calls=[CALL])
            turn.add_message("tool", "sunny", tool_call_id="c1")
            raise RuntimeError("model down")
        store.clear_session("ada")
        if purged:
            assert store.purge("ada").generations == 1
        with store.turn("ada", "How is Paris?", key="k") as again:
            assert again.attempt == 2
            finished = [] if purged else ["assistant", "tool"]
            assert [message["role"] for message in again.history] == ["user", *finished]
            again.write("Sunny.")
        roles = [message["role"] for message in store.get_chat_history("ada")]
        assert roles.count("user") == 1
