"""Whether a turn's worker counts as alive, as the server's clock says."""

from __future__ import annotations

import time

import pytest

import holdfast
from holdfast.agents import ManagedAgent
from holdfast.store.leases import lease_of, leases


@pytest.mark.parametrize("wrong_s", [-3_600, 3_600])
def test_a_machine_whose_clock_is_wrong(
    database: str, monkeypatch: pytest.MonkeyPatch, wrong_s: int
) -> None:
    """It shows a turn that runs as running, and for how long its lease holds."""
    true_ns = time.time_ns
    with holdfast.connect(database) as store, store.turn("s", "Hello?", ttl=60) as turn:
        managed = ManagedAgent(store=store, session_id="s")
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: true_ns() + wrong_s * 1_000_000_000)
            assert managed.retrieve_session()["status"] == "running"
            lease = lease_of(store, "s")
            assert lease is not None
            assert (lease.turn, lease.holds) == (turn.id, True)
            assert 0 < lease.left_s <= 60
            assert leases(store)["s"].holds
