"""Time that the circuit breaker stays open after a Retry-After: never shorter, and hardly longer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.pacing import waiting_line
from mira_worker.pacing.pacer import Pacer, with_wait_margin

from mira_queue.contract.pace import ConfiguredLimits, PaceState, Permit, Verdict
from mira_queue.ledger.records import Lease


@given(st.integers(0, 7 * 86_400_000))
def test_a_wait_is_never_cut_short_and_is_a_thousandth_longer_at_most_and_a_clocks_grain(wait_ms: int) -> None:
    wait = timedelta(milliseconds=wait_ms)

    assert wait < with_wait_margin(wait) <= wait * 1.001 + timedelta(milliseconds=11)


def pacer_on(ledger: Any) -> Pacer:
    log, stopping = structlog.get_logger(), threading.Event()
    return Pacer(ledger, "an-account", ConfiguredLimits(), probe_lease=timedelta(1), stopping=stopping, log=log)


class FarLedger:
    """Lets everything go; none of its answers is as fresh as a call wants it."""

    def jobs_left(self, account: str) -> int:
        return 0

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
    monkeypatch.setattr(waiting_line, "STALE_S", 0.0)
    ledger: Any = FarLedger()

    leave = pacer_on(ledger).acquire(Lease("a-job", 1, b"{}"))

    assert leave.permit.may_start
    assert ledger.looks > 1


class ChangingLedger(FarLedger):
    """Grants every permit, and has these verdicts when a call asks again."""

    def __init__(self, *verdicts: Verdict) -> None:
        super().__init__()
        self.verdicts = list(verdicts)

    def confirm_permit(self, account: str, lease: Lease, permit: Permit) -> Permit:
        threading.Event().wait(0.002)
        verdict = self.verdicts.pop(0) if self.verdicts else "go"
        return permit if verdict == "go" else Permit(verdict)

    def renew_permits(self, account: str, calls: Iterable[str], call_lease: timedelta) -> None:
        self.renewed = list(calls)


@pytest.mark.parametrize(
    ("verdicts", "last", "renewed"),
    [(["held"], "held", []), (["wait"], "go", ["a-job:1"]), (["wait", "wait", "expired"], "expired", [])],
)
def test_a_call_whose_permit_was_replaced_by_a_wait_requests_another_and_any_other_verdict_is_final(
    verdicts: list[Verdict], last: str, renewed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_line, "STALE_S", 0.0)
    ledger: Any = ChangingLedger(*verdicts)
    own = pacer_on(ledger)

    held = own.acquire(Lease("a-job", 1, b"{}"))
    ledger.renewed = []
    own.line.renew_permits()

    assert held.permit.verdict == last
    assert ledger.renewed == renewed
