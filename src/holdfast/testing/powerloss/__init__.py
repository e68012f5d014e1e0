"""Power failures for a store: what may be left of its files, and whether it kept its word.

A run of the real store is recorded below SQLite, operation by operation (`vfs`). From the recording
come crash states: what a disk may hold if the power fails at some point (`disk` says what is legal,
`remains` and `states` draw from it). Holdfast starts from each as it would after a real failure,
and `checking` compares what it finds with the run's acknowledgement log (`recording.Moment`). `run`
does it many times; `python -m holdfast.testing.powerloss` is the same for people.

Needs `apsw`, which is installed with `holdfast[testing]`.
"""

from holdfast.testing.powerloss.campaign import Plan, run
from holdfast.testing.powerloss.connection import Setting
from holdfast.testing.powerloss.report import Report, Tally

__all__ = ["Plan", "Report", "Setting", "Tally", "run"]
