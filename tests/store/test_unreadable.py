"""A turn of a session whose history cannot be read."""

from __future__ import annotations

import pytest

from holdfast.errors import CorruptEntry
from holdfast.model.entry import TurnEntry
from holdfast.store.backend import HistoryRead
from holdfast.store.memory import MemoryBackend
from holdfast.testing import conformance
from holdfast.testing.conformance import Face


class Damaged(MemoryBackend):
    """A backend whose histories do not match their checksums."""

    def read_history(
        self, tenant: str, session_id: str, *, at: int | None = None, last: int | None = None
    ) -> HistoryRead | None:
        """What is there, with other checksums."""
        session = self._sessions[tenant, session_id]
        intact = session.log
        session.log = [row._replace(checksum=row.checksum ^ 1) for row in intact]
        try:
            return super().read_history(tenant, session_id, at=at, last=last)
        finally:
            session.log = intact


@pytest.mark.parametrize("face", conformance.FACES)
def test_it_is_closed(face: Face) -> None:
    """The turn is closed as failed: the session is not busy until a lease runs out for nobody."""
    with conformance.Subject(Damaged, face) as subject:
        store = subject.open()
        with pytest.raises(CorruptEntry), store.turn("s", "Hello"):
            pass
        last = [each for each in store.read_entries("s") if isinstance(each, TurnEntry)][-1]
        assert (last.status, store.get_session("s").status) == ("failed", "idle")
        assert last.error is not None
        assert last.error.startswith("CorruptEntry")
