"""Makes the fixture of the newest schema: a store with something of everything that it can hold.

Each schema version keeps the fixture that its own code made: `tests/fixtures/schema_NNN.db`, and
beside it, as JSON, what was read from it then. One that is there is never made again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import holdfast
from holdfast.store.sources import Sources

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
TENANTS = ("default", "other")
CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def main() -> int:
    """Write the fixture that is missing, or say that there is one."""
    draft = FIXTURES / "draft.db"
    draft.unlink(missing_ok=True)
    with holdfast.connect(draft, sources=_scripted()) as store:
        _fill(store)
    with holdfast.connect(draft, sources=_scripted(), tenant="other") as store:
        store.add_user_message("ada", "In another tenant")
    asyncio.run(_fill_at_once(draft))
    with sqlite3.connect(draft) as connection:
        connection.execute("VACUUM")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    target = FIXTURES / f"schema_{version:03}.db"
    if target.exists():
        draft.unlink()
        print(f"{target.name} is there already, and stays as it is")
        return 1
    content = {tenant: contents(draft, tenant) for tenant in TENANTS}
    draft.rename(target)
    for suffix in ("-wal", "-shm", "-queue", "-write"):
        Path(f"{draft}{suffix}").unlink(missing_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    target.with_suffix(".json").write_text(text + "\n", "utf-8")
    print(f"made {target.name}, {target.stat().st_size:,} bytes")
    return 0


def contents(path: Path, tenant: str) -> dict[str, Any]:
    """Return what the public reads say of every session of a tenant, as JSON values."""
    with holdfast.connect(path, tenant=tenant, sources=_scripted()) as store:
        return {info.id: _session(store, info) for info in store.list_sessions()}


def _session(store: holdfast.SessionStore, info: holdfast.SessionInfo) -> dict[str, Any]:
    entries = store.read_entries(info.id)
    return {
        "title": info.title,
        "user_id": info.user_id,
        "agent_name": info.agent_name,
        "metadata": info.metadata,
        "created_at": info.created_at.isoformat(),
        "updated_at": info.updated_at.isoformat(),
        "message_count": info.message_count,
        "revision": info.revision,
        "messages": store.get_messages(info.id),
        "entries": [[entry.revision, entry.kind.value, entry.at.isoformat()] for entry in entries],
        "histories": {
            str(entry.revision): list(store.get_chat_history(info.id, at=entry.revision))
            for entry in entries
        },
    }


def _fill(store: holdfast.SessionStore) -> None:
    store.create_session("ada", title="Greetings", user_id="u1", metadata={"plan": "free"})
    store.add_user_message("ada", "Hello", key="k1")
    store.add_assistant_message("ada", "Hello Ada! ☕")
    history = store.get_chat_history("ada")
    history[0] = {"role": "user", "content": "[redacted]"}
    store.set_chat_history("ada", history)
    store.add_user_message("ada", "How are you?")
    store.update_session_metadata("ada", plan="paid")
    store.add_message("tools", "assistant", None, tool_calls=[CALL])
    store.add_message("tools", "tool", "noon", tool_call_id="c1")
    store.add_message("tools", "assistant", None, tool_calls=[CALL])
    store.set_chat_history("long", [{"role": "user", "content": f"line {n}"} for n in range(200)])
    store.add_user_message("cleared", "to be forgotten")
    store.clear_session("cleared")
    with store.turn("turns", "What time is it?", key="k2", user_id="u2") as turn:
        turn.add_message("assistant", None, tool_calls=[CALL])
        turn.add_message("tool", "noon", tool_call_id="c1")
        turn.record_usage(model="small", input_tokens=3, output_tokens=5)
        turn.write("It is noon.")
    store.add_user_message("gone", "deleted")
    store.delete_session("gone")
    store.add_user_message("gone", "made again")
    store.search("hello")  # which fills the search index


async def _fill_at_once(draft: Path) -> None:
    # Last, so that all but one are not put in their place by a write that comes after them.
    async with holdfast.connect_async(draft, sources=_scripted()) as store:
        names = [f"together-{number}" for number in range(8)]
        await asyncio.gather(*(store.add_user_message(name, "All at once") for name in names))
        await store.add_assistant_message(names[0], "Put in its place, and so is what came before")


def _scripted() -> Sources:
    ticks, ids = itertools.count(1_790_000_000_000, 250), itertools.count(1)
    return Sources(now_ms=lambda: next(ticks), new_id=lambda: f"{next(ids):016x}")


if __name__ == "__main__":
    sys.exit(main())
