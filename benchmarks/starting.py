"""What `import holdfast` costs a program that starts."""

from __future__ import annotations

from collections.abc import Generator
from statistics import median

from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import interpreter_s

NAME = "import holdfast, above a bare interpreter"
READY = "import holdfast and look up its connect, above a bare interpreter"
"""What is not loaded before it is asked for has to be loaded then: nothing is hidden from this."""

BARE, IMPORTED, LOOKED_UP = "pass", "import holdfast", "import holdfast; holdfast.connect"


def importing(ground: Ground) -> Generator[Round, None, None]:
    """Measure interpreters that import Holdfast and ones that do nothing, by turns."""
    with ground.folder() as compiled:
        interpreter_s(LOOKED_UP, compiled)
        while True:
            took: dict[str, list[float]] = {BARE: [], IMPORTED: [], LOOKED_UP: []}
            for _ in range(ground.count(7)):
                for statement, seconds in took.items():
                    seconds.append(interpreter_s(statement, compiled))
            bare, imported, looked_up = (median(seconds) * 1e3 for seconds in took.values())
            yield Round(
                {NAME: imported - bare, READY: looked_up - bare}, {"bare_interpreter_ms": bare}
            )


MEASUREMENTS = (
    Measurement(
        "import",
        (Figure(NAME, "ms", Wanted.AT_MOST, target=50), Figure(READY, "ms", Wanted.AT_MOST)),
        importing,
    ),
)
