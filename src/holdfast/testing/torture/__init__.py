"""Torture for a store: processes that write, save, rewrite and read it while they are killed.

`storm` runs it on any store that several processes can reach; afterwards `check` compares what the
store holds with what it had acknowledged. The acknowledgements are kept outside the store, in files
that survive a SIGKILL. `python -m holdfast.testing.torture` is the same for people.
"""

from holdfast.testing.torture.checker import Findings, check
from holdfast.testing.torture.crashes import Crashes
from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.progress import Progress
from holdfast.testing.torture.report import Report
from holdfast.testing.torture.storm import storm

__all__ = ["Crashes", "Findings", "Plan", "Progress", "Report", "check", "storm"]
