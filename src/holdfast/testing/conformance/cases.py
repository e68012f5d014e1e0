"""The table of cases for preconditions and saving: one for each rule, whatever the backend."""

from __future__ import annotations

from typing import Final

from holdfast.testing.conformance.conditions import EXPECTATIONS, KEYS
from holdfast.testing.conformance.saves import APPENDS, BASES, REWRITES

CASES: Final = (*APPENDS, *REWRITES, *BASES, *EXPECTATIONS, *KEYS)
