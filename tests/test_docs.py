"""Every code block in the README and the docs runs as a reader would run it.

A page runs from top to bottom in one process and one empty folder, so that a later block builds on
the earlier ones. No block can be skipped: what must not run here (`make`, `git clone`,
`pip install`) is checked against the checkout instead, and ```text is for output.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# How many blocks there are of each kind, so that none vanishes unseen. A new block raises it.
BLOCKS = {"python": 104, "console": 2, "sh": 20, "bash": 0, "text": 11}

PAGE_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: what stands behind its opening fence, its text, and where that begins."""

    info: str
    text: str
    line: int


def read_blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    blocks = []
    lines = page.splitlines()
    number = 0
    while number < len(lines):
        opening = re.match(r"\s*(```+|~~~+)\s*(.*?)\s*$", lines[number])
        number += 1
        if opening is None:
            continue
        first = number
        while lines[number].strip() != opening[1]:  # an open end is an IndexError: a broken page
            number += 1
        text = textwrap.dedent("\n".join(lines[first:number])) + "\n"
        blocks.append(Block(opening[2], text, first))
        number += 1
    return blocks


def commands(block: Block) -> list[str]:
    """The command lines of a shell block, continued lines joined."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.info == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def check_make(words: list[str]) -> str:
    """Asks make whether it would know what to do; it does nothing."""
    environment = {name: text for name, text in os.environ.items() if "MAKE" not in name}
    command = [words[0], "-n", *words[1:]]
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    return ":"


def check_git(words: list[str]) -> str:
    """Accepts a clone of this project, and leaves an empty folder in its place."""
    name = Path(words[-1]).name.removesuffix(".git")
    if words[1] != "clone" or name != "holdfast":
        raise ValueError(f"not a clone of this project: {shlex.join(words)}")
    return f"mkdir -p {name}"


def check_pip(words: list[str]) -> str:
    """Accepts an installation of this project with extras that it has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    for word in words[2:]:
        wanted = re.fullmatch(r"holdfast(?:\[([a-z0-9,-]+)\])?", word)
        if wanted is None or not set((wanted[1] or "").split(",")) <= {"", *extras}:
            raise ValueError(f"not this package, or no such extra: {shlex.join(words)}")
    return ":"


CHECKED = {"make": check_make, "git": check_git, "pip": check_pip}


def script(block: Block) -> str:
    """What a shell block runs here: its commands, with the checked ones checked and left out."""
    lines = ["set -euo pipefail"]
    for command in commands(block):
        for part in command.split(" && "):
            check = CHECKED.get(part.split()[0])
            lines.append(check(shlex.split(part, comments=True)) if check else part)
    return "\n".join(lines)


def run_page(page: Path) -> None:
    """Runs a page's blocks in order, in this process and this folder."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in read_blocks(page.read_text("utf-8")):
            if block.info == "python":
                code = compile(
                    "\n" * block.line + block.text,  # so that a traceback names the page's line
                    str(page),
                    "exec",
                    ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                    dont_inherit=True,
                )
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(eval(code, namespace))
                else:
                    exec(code, namespace)
            elif block.info in {"console", "sh", "bash"}:
                subprocess.run(["bash", "-c", script(block)], stdin=subprocess.DEVNULL, check=True)
            elif block.info != "text":
                raise ValueError(f"{page}:{block.line}: a block of kind {block.info!r}")


def run_apart(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a page in a process of its own, as a user with an empty home."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        **{f"XDG_{kind}_HOME": str(folder / kind) for kind in ("CACHE", "CONFIG", "DATA", "STATE")},
    }
    environment.pop("HOLDFAST_URL", None)
    environment.pop("HOLDFAST_TENANT", None)
    work = folder / "work"
    work.mkdir()
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", __file__, str(page)],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PAGE_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs(page: Path, tmp_path: Path) -> None:
    """What a page tells the reader to run, runs."""
    done = run_apart(page, tmp_path)
    assert done.returncode == 0, done.stdout


def test_no_block_vanishes() -> None:
    """The number of blocks of each kind is the one stated above."""
    found = Counter(block.info for page in PAGES for block in read_blocks(page.read_text("utf-8")))
    assert {**dict.fromkeys(BLOCKS, 0), **found} == BLOCKS


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```python\nx = 1\n```\n```python\nassert x == 2\n```", "AssertionError"),
        ("```python\nimport asyncio\nawait asyncio.sleep(0)\n1 / 0\n```", "ZeroDivisionError"),
        ("```sh\nfalse\n```", "non-zero exit status"),
        ("```sh\nfalse | true\ntrue\n```", "non-zero exit status"),
        ("```console\n$ no-such-command\noutput\n```", "non-zero exit status"),
        ("```sh\nmake no-such-target\n```", "no-such-target"),
        ("```sh\npip install hold-fast\n```", "not this package"),
        ("```sh\npip install 'holdfast[no-such-extra]'\n```", "no such extra"),
        ("```sh\ngit clone https://example.org/other.git\n```", "not a clone"),
        ("```\nno kind\n```", "a block of kind ''"),
        ("```python skip\n```", "a block of kind 'python skip'"),
        ("```python\nnever closed\n", "IndexError"),
    ],
)
def test_faults_are_caught(block: str, complaint: str, tmp_path: Path) -> None:
    """A block that fails, or that would escape being run, fails its page."""
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{block}\n", "utf-8")
    done = run_apart(page, tmp_path)
    assert done.returncode != 0
    assert complaint in done.stdout


def test_good_page_passes(tmp_path: Path) -> None:
    """Blocks share names and a folder in order, await at top level, and commands are checked."""
    page = tmp_path / "page.md"
    page.write_text(
        textwrap.dedent("""\
            1. Indented in a list:

                ```python
                import asyncio, pathlib
                lock = asyncio.Lock()
                ```

            ```python
            async with lock:
                pathlib.Path("note").write_text("hello")
            ```

            ```console
            $ git clone https://example.org/holdfast && cd holdfast
            $ pip install 'holdfast[testing]' && make help
            $ grep hello \\
                ../note
            hello
            ```
            """),
        "utf-8",
    )
    done = run_apart(page, tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout == "hello\n"


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
