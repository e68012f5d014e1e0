"""Shows that a store can be opened and used with nothing installed beside msgspec.

An import that is tried and caught counts as a fault too: it would cost everybody its time. Only
isal may be tried, which nearly everybody has: it is out of reach here, as where it has no wheel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The public names are read and a store is opened, since both may load what was not loaded before.
BARE_IMPORT = """
import sys

ALLOWED = sys.stdlib_module_names | {"holdfast", "msgspec"}
TRIED = "isal"
refused = []

class Gate:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # CPython keeps its build settings in a module whose name depends on the platform, and its
        # copy module looks for Jython's own types.
        if top in ALLOWED or top.startswith("_sysconfigdata") or top == "org":
            return None
        if top != TRIED:
            refused.append(name)
        raise ModuleNotFoundError(f"{name} is not part of a bare installation", name=name)

sys.meta_path.insert(0, Gate())
import msgspec
refused.clear()  # what msgspec looks for is its own affair
import holdfast
for name in getattr(holdfast, "__all__", ()):
    getattr(holdfast, name)
with holdfast.connect(sys.argv[1]) as store:
    store.add_user_message("bare", "hello")
    store.get_chat_history("bare")
if refused:
    sys.exit("imported beside msgspec: " + ", ".join(sorted(set(refused))))
"""


def import_seconds(code: str, environment: dict[str, str]) -> float:
    """The median time of a new interpreter that runs the code."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Fails if the bare import does; the time it takes is told, never judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args().root
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", BARE_IMPORT, f"{folder}/bare.db"]
        if subprocess.run(command, env=environment, check=False).returncode:
            return 1
    bare = import_seconds("pass", environment)
    for code in ("import holdfast", "import holdfast; holdfast.connect"):
        above = import_seconds(code, environment) - bare
        print(f"{code}: {above * 1000:.0f} ms above a bare interpreter")
    return 0


if __name__ == "__main__":
    sys.exit(main())
