"""One suite that every backend runs, through the synchronous and the asynchronous face.

In a test module of the backend:

    import pytest
    from holdfast.testing import conformance

    @pytest.fixture(params=conformance.FACES)
    def subject(request, tmp_path):
        with conformance.Subject(lambda sources: MyBackend(tmp_path, sources), request.param) as s:
            yield s

    class TestPreconditions(conformance.Preconditions): ...

and so on for each class of `SUITE`.
"""

from __future__ import annotations

import pkgutil

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)

from holdfast.testing.conformance.carrying import Carrying  # noqa: E402
from holdfast.testing.conformance.cases import CASES  # noqa: E402 - after the rewriting is asked for
from holdfast.testing.conformance.compacting import Compacting  # noqa: E402
from holdfast.testing.conformance.deleting import Deleting  # noqa: E402
from holdfast.testing.conformance.editing import Editing  # noqa: E402
from holdfast.testing.conformance.endurance import Endurance  # noqa: E402
from holdfast.testing.conformance.exporting import Exporting  # noqa: E402
from holdfast.testing.conformance.exporting_turns import ExportingTurns  # noqa: E402
from holdfast.testing.conformance.input import BadInput  # noqa: E402
from holdfast.testing.conformance.messages import Messages  # noqa: E402
from holdfast.testing.conformance.moving import Moving  # noqa: E402
from holdfast.testing.conformance.points import Points  # noqa: E402
from holdfast.testing.conformance.preconditions import Preconditions  # noqa: E402
from holdfast.testing.conformance.purging import Purging  # noqa: E402
from holdfast.testing.conformance.reading import Reading  # noqa: E402
from holdfast.testing.conformance.repeating import Repeating  # noqa: E402
from holdfast.testing.conformance.resuming import Resuming  # noqa: E402
from holdfast.testing.conformance.rewinding import Forking, Rewinding  # noqa: E402
from holdfast.testing.conformance.saving import Saving  # noqa: E402
from holdfast.testing.conformance.searching import Searching  # noqa: E402
from holdfast.testing.conformance.sessions import Sessions  # noqa: E402
from holdfast.testing.conformance.sharing import Sharing  # noqa: E402
from holdfast.testing.conformance.steps import Case  # noqa: E402
from holdfast.testing.conformance.subject import (  # noqa: E402
    FACES,
    Face,
    OpenBackend,
    Script,
    Subject,
)
from holdfast.testing.conformance.suite import Conformance  # noqa: E402
from holdfast.testing.conformance.tenants import Tenants  # noqa: E402
from holdfast.testing.conformance.tools import Tools  # noqa: E402
from holdfast.testing.conformance.totals import Totals  # noqa: E402
from holdfast.testing.conformance.turn_points import TurnPoints  # noqa: E402
from holdfast.testing.conformance.turning import Turning  # noqa: E402

SUITE: tuple[type[Conformance], ...] = (
    Messages,
    Preconditions,
    Saving,
    Editing,
    Reading,
    Points,
    Rewinding,
    Forking,
    Compacting,
    Purging,
    Exporting,
    Tools,
    Sessions,
    Deleting,
    Searching,
    Tenants,
    BadInput,
    Sharing,
    Endurance,
    Turning,
    Repeating,
    Resuming,
    Totals,
    ExportingTurns,
    TurnPoints,
    Carrying,
    Moving,
)
"""Every class of the suite."""

__all__ = [
    "CASES",
    "FACES",
    "SUITE",
    "BadInput",
    "Carrying",
    "Case",
    "Compacting",
    "Conformance",
    "Deleting",
    "Editing",
    "Endurance",
    "Exporting",
    "ExportingTurns",
    "Face",
    "Forking",
    "Messages",
    "Moving",
    "OpenBackend",
    "Points",
    "Preconditions",
    "Purging",
    "Reading",
    "Repeating",
    "Resuming",
    "Rewinding",
    "Saving",
    "Script",
    "Searching",
    "Sessions",
    "Sharing",
    "Subject",
    "Tenants",
    "Tools",
    "Totals",
    "TurnPoints",
    "Turning",
]
