"""PraisonAI itself, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from benchmarks.environments import environment
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli.main import cli
from holdfast.integrations.praisonai import DefaultSessionStore
from tests.started import started

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURE = ROOT / "tests" / "fixtures" / "praisonai"
LIMIT_S = 240

Started: TypeAlias = "subprocess.Popen[str]"
Start: TypeAlias = Callable[..., Started]


@pytest.fixture(scope="session")
def praisonai() -> Path:
    """A Python that has PraisonAI; set up when it is first needed, and kept in the checkout.

    It takes 15 seconds and 170 MB. Where there is no package index the tests that need it fail:
    they are never skipped.
    """
    return environment(Path(__file__).parent / "requirements.txt", ROOT / "tests/.envs/praisonai")


@pytest.fixture
def start(praisonai: Path, tmp_path: Path) -> Start:
    """Starts a role of `tests.praisonai.worker` in PraisonAI's environment."""
    return partial(_started, praisonai, tmp_path)


@pytest.fixture
def start_here(tmp_path: Path) -> Start:
    """Starts a role of `tests.praisonai.worker` without PraisonAI."""
    return partial(_started, Path(sys.executable), tmp_path)


def _started(python: Path, folder: Path, role: str, *arguments: object) -> Started:
    # Its home is empty, its key is none, and nothing is told to anybody.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    settings = {
        **kept,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "HOME": str(folder),
        "PRAISONAI_HOME": str(folder / ".praisonai"),
        "PRAISONAI_TELEMETRY_DISABLED": "true",
        "OPENAI_API_KEY": "none",
    }
    command = [str(python), "-m", "tests.praisonai.worker", role, *map(str, arguments)]
    return started(
        subprocess.Popen(command, cwd=folder, env=settings, text=True, stdout=subprocess.PIPE)
    )


@pytest.fixture
def store(tmp_path: Path) -> DefaultSessionStore:
    """A drop-in on a store of its own."""
    return DefaultSessionStore(tmp_path / "chats.db")


def heard(started: Started) -> Any:
    """Return what a worker says at its end."""
    out, _ = started.communicate(timeout=LIMIT_S)
    assert started.returncode == 0, out
    return json.loads(out.splitlines()[-1])


def user(text: str) -> dict[str, Any]:
    """Return a user's message."""
    return {"role": "user", "content": text}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A store without sessions, closed."""
    path = tmp_path / "chats.db"
    holdfast.connect(path).close()
    return path


@pytest.fixture
def bring(target: Path) -> Callable[..., Result]:
    """Runs `holdfast import` into the store."""

    def bring(*words: object) -> Result:
        return CliRunner().invoke(cli, ["import", *map(str, words), "--store", str(target)])

    return bring


def said(path: Path, session_id: str) -> list[str]:
    """Return a session's texts."""
    with holdfast.connect(path) as store:
        return [str(message["content"]) for message in store.get_chat_history(session_id)]


def write(folder: Path, name: str, value: Any) -> None:
    """Write a file of PraisonAI's."""
    folder.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
