"""What `import holdfast` costs a program that starts."""

from __future__ import annotations

from collections.abc import Generator
from statistics import median

from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted
from benchmarks.limits import interpreter_s

NAME = "import holdfast, above a bare interpreter"


def importing(ground: Ground) -> Generator[Round, None, None]:
    """Measure interpreters that import Holdfast and ones that do nothing, by turns."""
    with ground.folder() as compiled:
        interpreter_s("import holdfast", compiled)
        while True:
            bare: list[float] = []
            ours: list[float] = []
            for _ in range(ground.count(7)):
                bare.append(interpreter_s("pass", compiled))
                ours.append(interpreter_s("import holdfast", compiled))
            above = median(ours) - median(bare)
            yield Round({NAME: above * 1e3}, {"bare_interpreter_ms": median(bare) * 1e3})


MEASUREMENTS = (Measurement("import", (Figure(NAME, "ms", Wanted.AT_MOST, target=50),), importing),)
