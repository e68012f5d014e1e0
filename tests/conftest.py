"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# The same examples every time, and no judgement of speed: a machine may be busy with other things.
settings.register_profile("holdfast", derandomize=True, database=None, deadline=None)
settings.load_profile("holdfast")
