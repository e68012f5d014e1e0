"""Makes the fixtures of an import from PraisonAI: a small home that its own stores wrote.

Run it with a Python that has praisonaiagents, such as the one that the tests set up:

    tests/.envs/praisonai/bin/python scripts/praisonai_fixtures.py

Everything in it is invented. It is written anew each time, with the times of that moment.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

HOME = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "praisonai"
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Lisbon"}'},
}


def main() -> None:
    """Write the home anew."""
    shutil.rmtree(HOME, ignore_errors=True)
    os.environ["PRAISONAI_HOME"] = str(HOME)
    from praisonaiagents.session.sqlite_transcript_store import SqliteTranscriptStore
    from praisonaiagents.session.store import DefaultSessionStore

    store = DefaultSessionStore()
    _plain(store)
    _compacted(DefaultSessionStore(active_window=6))
    _sharing(store)
    _spilled(store)
    rows = SqliteTranscriptStore(session_dir=str(HOME / "sessions" / "gateway"))
    for text in ("Are you open on Sunday?", "And on Monday?"):
        rows.add_user_message("discord:7", text)
        rows.add_assistant_message("discord:7", f"You asked: {text}")
    rows.set_gateway_info("discord:7", "gateway-1", "greeter")
    rows._conn.close()
    for lock in HOME.rglob("*.lock"):
        lock.unlink()
    (HOME / "sessions" / "notes.txt").write_text("not a session\n", "utf-8")
    for path in sorted(HOME.rglob("*")):
        print(path.relative_to(HOME), path.stat().st_size if path.is_file() else "")


def _plain(store: Any) -> None:
    store.set_agent_info("trip", agent_name="Guide", user_id="ada")
    store.add_user_message("trip", "Will it rain in Lisbon?", {"lang": "en"})
    store.add_message("trip", "assistant", "", tool_calls=[CALL])
    store.add_message("trip", "tool", "sunny", tool_call_id="call_1")
    store.add_assistant_message("trip", "No, it will be sunny. Até já! 🌞")
    store.rename_session("trip", "To Lisbon")
    store.update_session_metadata("trip", model="gpt-4o-mini", total_tokens=42)
    store.add_user_message("resumed", "Tell me a long story")
    store.add_assistant_message("resumed", "Once upon a time")
    store.append_compaction_checkpoint("resumed", "They like stories.")
    store.add_user_message("resumed", "Go on")


def _compacted(store: Any) -> None:
    for number in range(6):
        store.add_user_message("long", f"question {number}")
        store.add_assistant_message("long", f"answer {number}")


def _sharing(store: Any) -> None:
    """Two ids have one file; it is damaged, put aside, and begun again for the other id."""
    for number in range(3):
        store.add_user_message("telegram:42", f"from the colon {number}")
        store.add_assistant_message("telegram:42", f"to the colon {number}")
    file = HOME / "sessions" / "telegram_42.json"
    text = file.read_text("utf-8")
    file.write_text(text[: text.index("to the colon 2")], "utf-8")  # the disk was full
    store.add_user_message("telegram_42", "from the underscore")
    store.add_assistant_message("telegram_42", "to the underscore")


def _spilled(store: Any) -> None:
    """A message that could not be saved, and that nobody has read back yet."""
    store.add_user_message("slack:C1/9", "Is this saved?")
    with patch.object(type(store), "_atomic_write_json", return_value=False):
        store.add_assistant_message("slack:C1/9", "Only beside its file.")


if __name__ == "__main__":
    main()
