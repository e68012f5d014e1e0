"""Planted faults: what a run's own recording must show if the store had done this or that."""

from holdfast.testing.checking.faults.planting import FAULTS, Planted, plant

__all__ = ["FAULTS", "Planted", "plant"]
