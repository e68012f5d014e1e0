"""The history checker: what clients asked and were told, held against everything that is promised.

`check` lets threads, tasks and processes work on shared sessions, some of them killed, and records
each operation with its times and its outcome. Before it judges that recording it plants faults in
copies of it, and a judge that misses one is not believed. `judge` alone takes any recording, made
with `RecordedStore`; it believes nothing but the recording, whose last reads show the log.
`python -m holdfast.testing.checking` is the same for people.
"""

from holdfast.testing.checking.faults import FAULTS, Planted, plant
from holdfast.testing.checking.judging import Judgement, judge
from holdfast.testing.checking.plan import Plan
from holdfast.testing.checking.recorder import RecordedStore
from holdfast.testing.checking.recording import ClientLog, Recording, read_recording
from holdfast.testing.checking.report import Report, check
from holdfast.testing.checking.running import record
from holdfast.testing.checking.violation import Rule, Violation

__all__ = [
    "FAULTS",
    "ClientLog",
    "Judgement",
    "Plan",
    "Planted",
    "RecordedStore",
    "Recording",
    "Report",
    "Rule",
    "Violation",
    "check",
    "judge",
    "plant",
    "read_recording",
    "record",
]
