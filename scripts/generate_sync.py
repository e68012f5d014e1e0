"""Writes the sync store from the async one, so that the two faces cannot drift apart.

The async file is the source. What differs between the faces lives in the shells that both import;
the rest is a matter of words, and the table below has them.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from pathlib import Path

# Source and result, below the root.
GENERATED = {
    "src/holdfast/store/async_store.py": "src/holdfast/store/sync_store.py",
    "src/holdfast/store/async_turn.py": "src/holdfast/store/sync_turn.py",
}

# Whole words of the async face, and what stands for them in the sync one; in order.
WORDS = {
    "async def": "def",
    "async with": "with",
    "async for": "for",
    "AsyncSessionStore": "SessionStore",
    "AsyncTurn": "Turn",
    "async_turn": "sync_turn",
    "connect_async": "connect",
    "AsyncShell": "SyncShell",
    "_async_shell": "_sync_shell",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
}

AWAIT = re.compile(r"\bawait\s+")
# What Awaitable holds, with brackets up to two deep inside it.
AWAITABLE = re.compile(r"\bAwaitable\[((?:[^][]|\[(?:[^][]|\[[^][]*\])*\])*)\]")


def translate(source: str, name: str) -> str:
    """The sync text of an async file called `name`, not yet formatted."""
    text = AWAIT.sub("", source)
    text = AWAITABLE.sub(r"\1", text)
    for old, new in WORDS.items():
        # What begins with "_" may also end a longer name, such as make_async_shell.
        before = "" if old.startswith("_") else r"\b"
        text = re.sub(rf"{before}{re.escape(old)}\b", new, text)
    return f"# Generated from {name} by scripts/generate_sync.py: do not edit.\n{text}"


def tidy(text: str, path: Path) -> str:
    """Drops the imports that only the async face needs, sorts the rest, and formats."""
    unused_and_order = ("check", "--quiet", "--exit-zero", "--fix", "--select", "F401,I")
    for command in (unused_and_order, ("format", "--quiet")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(
                f"ruff {command[0]} refuses the text generated for {path}:\n{done.stderr}"
            )
        text = done.stdout
    return text


def main() -> int:
    """Writes every generated file, or with --check says which ones are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a stale file")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    stale = False
    for source_name, target_name in GENERATED.items():
        source, target = options.root / source_name, options.root / target_name
        wanted = tidy(translate(source.read_text("utf-8"), source.name), target)
        found = target.read_text("utf-8") if target.exists() else ""
        if wanted == found:
            continue
        if not options.check:
            target.write_text(wanted, "utf-8")
            print(f"wrote {target_name}")
            continue
        stale = True
        print(f"{target_name} is not what {source_name} gives; run: make sync-face")
        diff = difflib.unified_diff(
            found.splitlines(), wanted.splitlines(), "as found", "as generated", lineterm=""
        )
        print("\n".join(diff))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
