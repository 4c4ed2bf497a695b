"""Time that the circuit breaker stays open after a Retry-After: never shorter, and hardly longer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.pacing import pacer
from mira_worker.pacing.pacer import Pacer, with_wait_margin

from mira_queue.contract.pace import ConfiguredLimits, PaceState, Permit
from mira_queue.ledger.records import Lease


@given(st.integers(0, 7 * 86_400_000))
def test_a_wait_is_never_cut_short_and_is_a_thousandth_longer_at_most_and_a_clocks_grain(wait_ms: int) -> None:
    wait = timedelta(milliseconds=wait_ms)

    assert wait < with_wait_margin(wait) <= wait * 1.001 + timedelta(milliseconds=11)


class FarLedger:
    """Lets everything go; none of its answers is as fresh as a call wants it."""

    def __init__(self) -> None:
        self.looks = 0

    def acquire_permits(
        self, account: str, process: str, jobs: Sequence[Any], *_: Any, **__: Any
    ) -> tuple[PaceState, list[Permit]]:
        return PaceState(0, "", 0, 0, 0, 0, 0, 0, 0), [Permit("go") for _ in jobs]

    def confirm_permit(self, account: str, lease: Lease, permit: Permit) -> Permit:
        self.looks += 1
        assert self.looks < 100, "it would look for ever"
        threading.Event().wait(0.002)
        return permit


def test_a_call_leaves_though_its_server_is_so_far_away_that_every_check_of_the_breaker_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacer, "STALE_S", 0.0)
    ledger: Any = FarLedger()
    log = structlog.get_logger()
    far = Pacer(ledger, "an-account", ConfiguredLimits(), probe_lease=timedelta(1), stopping=threading.Event(), log=log)

    leave = far.acquire(Lease("a-job", 1, b"{}"))

    assert leave.permit.may_start
    assert ledger.looks > 1
