"""Ctrl-C at a chosen step of the store's code."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import holdfast

SOURCE = str(Path(holdfast.__file__).parent)


class Strike:
    """Raises `KeyboardInterrupt` at one of the steps of a block, where Python hears of signals.

    That is where a function begins, and where one that is not written in Python has ended: of the
    store's own functions, and of the conditions that they enter.
    """

    def __init__(self, at: int, *files: str) -> None:
        self._at = at
        self._files = files
        self._step = -1
        self.where = ""

    @property
    def came(self) -> bool:
        """Whether the block has as many steps."""
        return bool(self.where)

    def __enter__(self) -> Self:
        sys.setprofile(self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        sys.setprofile(None)
        return isinstance(error, KeyboardInterrupt)

    def _look(self, frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "c_return") or self.came or not self._is_ours(frame):
            return
        self._step += 1
        if self._step == self._at:
            self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
            raise KeyboardInterrupt

    def _is_ours(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        if file == threading.__file__:
            held = isinstance(frame.f_locals.get("self"), threading.Condition)
            entering = frame.f_code.co_name in ("__enter__", "__exit__")
            return held and entering and frame.f_back is not None and self._is_ours(frame.f_back)
        return file.startswith(SOURCE) and (not self._files or Path(file).name in self._files)
