"""Each check script catches a planted fault, and lets through what is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

ASYNC_STORE = '''\
"""The async store."""

from collections.abc import AsyncIterator, Awaitable, Callable

from holdfast.store._async_shell import AsyncShell


class AsyncSessionStore(AsyncShell):
    async def __aenter__(self) -> "AsyncSessionStore":
        return await self.open()

    async def edit(self, function: Callable[[list[str]], Awaitable[dict[str, list[int]]]]) -> None:
        async with self.turn() as turn:
            async for text in turn:
                await function(await self.read(text))

    async def follow(self) -> AsyncIterator[int]:
        yield 1
'''

SYNC_STORE = '''\
# Generated from async_store.py by scripts/generate_sync.py: do not edit.
"""The async store."""

from collections.abc import Callable, Iterator

from holdfast.store._sync_shell import SyncShell


class SessionStore(SyncShell):
    def __enter__(self) -> "SessionStore":
        return self.open()

    def edit(self, function: Callable[[list[str]], dict[str, list[int]]]) -> None:
        with self.turn() as turn:
            for text in turn:
                function(self.read(text))

    def follow(self) -> Iterator[int]:
        yield 1
'''

COMMANDS = '''\
import click


@click.group(invoke_without_command=True)
@click.option("--json", is_flag=True, help="Data, for people|programs.")
def cli(json: bool) -> None:
    """Keeps conversations."""


@cli.command()
@click.argument("session_id", nargs=-1, required=True)
@click.option("--limit", default=50, show_default=True, help="At most so many.")
def show(session_id: str, limit: int) -> None:
    """Shows sessions."""
'''

NAMES = """
class SessionStore:
    __enter__ = add_user_message = get_chat_history = lambda self, *_: self
    __exit__ = lambda self, *_: None

connect_async = AsyncSessionStore = None
connect = lambda path: SessionStore()
"""


def run(script: str, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script on the tree at `root`, which also comes first on the import path."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), "--root", str(root), *arguments],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def write(path: Path, text: str) -> Path:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def write_sources(root: Path) -> None:
    """What the sync face is made from: a small store, and a turn that needs no change."""
    write(root / "src/holdfast/store/async_store.py", ASYNC_STORE)
    write(root / "src/holdfast/store/async_turn.py", '"""A turn."""\n')
    heading = "# Generated from async_turn.py by scripts/generate_sync.py: do not edit.\n"
    write(root / "src/holdfast/store/sync_turn.py", heading + '"""A turn."""\n')


def test_sync_face_is_generated(tmp_path: Path) -> None:
    """The sync face says what the async one says, without the words of coroutines."""
    write_sources(tmp_path)
    assert run("generate_sync.py", tmp_path).returncode == 0
    assert (tmp_path / "src/holdfast/store/sync_store.py").read_text("utf-8") == SYNC_STORE
    assert run("generate_sync.py", tmp_path, "--check").returncode == 0


def test_stale_sync_face_is_caught(tmp_path: Path) -> None:
    """A generated file that was edited fails the check, which shows the line and writes nothing."""
    write_sources(tmp_path)
    edited = SYNC_STORE.replace("yield 1", "yield 2")
    target = write(tmp_path / "src/holdfast/store/sync_store.py", edited)
    done = run("generate_sync.py", tmp_path, "--check")
    assert done.returncode == 1
    assert "-        yield 2\n+        yield 1\n" in done.stdout
    assert "make sync-face" in done.stdout
    assert target.read_text("utf-8") == edited


def test_missing_sync_face_is_caught(tmp_path: Path) -> None:
    """A generated file that is not there fails the check."""
    write_sources(tmp_path)
    assert run("generate_sync.py", tmp_path, "--check").returncode == 1


def test_sizes_at_the_limit_pass(tmp_path: Path) -> None:
    """A file of 600 lines and a function of 80 are allowed."""
    write(tmp_path / "src/long.py", "x = 1\n" * 520 + "def f():\n" + "    x = 1\n" * 79)
    done = run("check_sizes.py", tmp_path)
    assert done.returncode == 0, done.stdout


def test_long_function_is_caught(tmp_path: Path) -> None:
    """A function of 81 lines is refused, also inside a class and when it is a coroutine."""
    body = "        x = 1\n" * 80
    write(tmp_path / "tests/long.py", f"class C:\n    async def f(self):\n{body}")
    done = run("check_sizes.py", tmp_path)
    assert done.returncode == 1
    assert "long.py:2: f has 81 lines" in done.stdout


def test_long_file_is_caught(tmp_path: Path) -> None:
    """A file of 601 lines is refused."""
    write(tmp_path / "scripts/long.py", "x = 1\n" * 601)
    done = run("check_sizes.py", tmp_path)
    assert done.returncode == 1
    assert "the file has 601 lines" in done.stdout


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    """What was installed into a hidden folder is not ours to keep short."""
    write(tmp_path / "benchmarks/.envs/peer/long.py", "x = 1\n" * 601)
    done = run("check_sizes.py", tmp_path)
    assert done.returncode == 0, done.stdout


def test_bare_import_passes(tmp_path: Path) -> None:
    """The standard library and msgspec may be imported."""
    write(tmp_path / "src/holdfast/__init__.py", f"import sqlite3, msgspec\n{NAMES}")
    done = run("check_bare_import.py", tmp_path)
    assert done.returncode == 0, done.stdout


def test_forbidden_import_is_caught(tmp_path: Path) -> None:
    """An import of click is refused, even where the package would catch its absence."""
    guarded = "try:\n    import click\nexcept ImportError:\n    pass\n"
    write(tmp_path / "src/holdfast/__init__.py", guarded + NAMES)
    done = run("check_bare_import.py", tmp_path)
    assert done.returncode == 1
    assert "imported beside msgspec: click" in done.stdout


def test_forbidden_lazy_import_is_caught(tmp_path: Path) -> None:
    """An import that happens when a public name is first read is refused as well."""
    lazy = "def __getattr__(name):\n    import rich\n"
    write(tmp_path / "src/holdfast/__init__.py", lazy)
    done = run("check_bare_import.py", tmp_path)
    assert done.returncode == 1
    assert "rich is not part of a bare installation" in done.stdout


def test_forbidden_import_of_a_store_is_caught(tmp_path: Path) -> None:
    """An import that happens when a store is opened or used is refused as well."""
    lazy = f"{NAMES}\ndef connect(path):\n    import httpx\n"
    write(tmp_path / "src/holdfast/__init__.py", lazy)
    done = run("check_bare_import.py", tmp_path)
    assert done.returncode == 1
    assert "httpx is not part of a bare installation" in done.stdout


def test_cli_reference_shows_every_command(tmp_path: Path) -> None:
    """The page has each command with its help, its arguments and its options."""
    write(tmp_path / "stub_commands.py", COMMANDS)
    assert run("cli_reference.py", tmp_path, "--command", "stub_commands:cli").returncode == 0
    page = (tmp_path / "docs/reference/cli.md").read_text("utf-8")
    for text in (
        "## holdfast\n\n`holdfast [OPTIONS] [COMMAND] [ARGS]...`\n\nKeeps conversations.\n",
        "| `--json` | Data, for people\\|programs. |\n",
        "## holdfast show\n\n`holdfast show [OPTIONS] SESSION_ID...`\n\nShows sessions.\n",
        "| `SESSION_ID...` | required, repeatable |\n",
        "| `--limit INTEGER` | At most so many. [default: 50] |\n",
    ):
        assert text in page
    done = run("cli_reference.py", tmp_path, "--command", "stub_commands:cli", "--check")
    assert done.returncode == 0, done.stdout


def test_stale_cli_reference_is_caught(tmp_path: Path) -> None:
    """A command whose help changed after the page was written fails the check."""
    commands = write(tmp_path / "stub_commands.py", COMMANDS)
    run("cli_reference.py", tmp_path, "--command", "stub_commands:cli")
    write(commands, COMMANDS.replace("Shows sessions", "Shows one session"))
    done = run("cli_reference.py", tmp_path, "--command", "stub_commands:cli", "--check")
    assert done.returncode == 1
    assert "-Shows sessions.\n+Shows one session.\n" in done.stdout
