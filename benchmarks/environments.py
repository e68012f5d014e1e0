"""A virtual environment for each peer, made when it is first needed and kept.

An environment is made anew when its list of packages or the Python that makes it has changed. The
stamp is written last, so one that was interrupted half-made is made again from nothing. A list
names every package, so nothing is installed that it does not name.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = Path(__file__).parent / ".envs"
PYTHON = Path("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
TAIL = 12


class NotInstalled(Exception):
    """A peer's environment could not be made; the message is what the installer said last."""


def environment(requirements: Path, folder: Path) -> Path:
    """Return the Python of the environment in `folder`, which has what `requirements` lists."""
    stamp = folder / ".ready"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
        # With our own pip: to install one more takes longer than most of what a list names. What is
        # imported is compiled then: most of it never is.
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
        pip = [sys.executable, "-m", "pip", "--python", str(folder / PYTHON), "install"]
        options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"]
        _run([*pip, *options, "--requirement", str(requirements)])
        stamp.write_text(wanted, "utf-8")
    return folder / PYTHON


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[-TAIL:])
        raise NotInstalled(said or f"{command[0]} ended with {done.returncode}")
