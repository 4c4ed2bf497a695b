"""The heartbeat of a worker, on a real server: what it says of leases that it cannot extend, and when it is late."""

from __future__ import annotations

import threading

import structlog
from mira_worker.leases import HeldLeases
from mira_worker.pacing.pacer import Pacer
from mira_worker.rescue import Rescuer
from mira_worker.runner import JobRunner
from mira_worker.transport import HttpResponse, OnStream
from structlog.testing import capture_logs

from mira_queue.contract.names import Lane
from mira_queue.contract.settings import Settings
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.crash_points import CrashPoints
from tests.support.ledger_steps import ACCOUNT, COMPLETION, LONG, MANY, PASSED, begun, claimed


class Silent:
    """A transport that is never used."""

    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse:
        raise NotImplementedError

    def redact(self, text: str) -> str:
        return text


def test_a_job_that_ends_while_the_heart_beats_has_not_lost_its_lease(ledger: Ledger) -> None:
    keeper = HeldLeases(ledger, LONG, structlog.get_logger("test"))
    held = begun(ledger)
    keeper.hold(held)
    with capture_logs() as said:
        # Its end is stored, and its thread does not know it yet.
        assert ledger.finish(held, COMPLETION)
        keeper.beat()
        keeper.drop(held)
        keeper.beat()
        keeper.beat()

    assert said == []


def test_a_lease_that_somebody_else_has_now_is_said_to_be_lost_once(ledger: Ledger) -> None:
    keeper = HeldLeases(ledger, LONG, structlog.get_logger("test"))
    held = begun(ledger, PASSED)
    keeper.hold(held)
    assert ledger.rescue(ACCOUNT, held.job_id, 3, LONG) == held.epoch
    with capture_logs() as said:
        for _ in range(4):
            keeper.beat()

    assert [(entry["event"], entry["job_id"]) for entry in said] == [("lease_lost", held.job_id)]
    assert keeper.held() == []


def test_a_lease_that_is_let_go_takes_along_no_later_one_of_the_same_job(ledger: Ledger) -> None:
    keeper = HeldLeases(ledger, LONG, structlog.get_logger("test"))
    lost = begun(ledger, PASSED)
    keeper.hold(lost)
    assert ledger.rescue(ACCOUNT, lost.job_id, 3, LONG) == lost.epoch
    again = claimed(ledger, lost.job_id)
    keeper.hold(again)

    keeper.drop(lost)

    assert keeper.held() == [again]
    assert ledger.finish(again, COMPLETION)


def test_a_worker_whose_heart_is_late_rescues_what_others_held_and_leaves_its_own_calls_alone(
    ledger: Ledger, settings: Settings
) -> None:
    log, stopping, no_crash = structlog.get_logger("test"), threading.Event(), CrashPoints("")
    keeper = HeldLeases(ledger, LONG, log)
    pacer = Pacer(ledger, "an-account", MANY, probe_lease=LONG, stopping=stopping, log=log)
    runner = JobRunner(settings, ledger, pacer, "", keeper, Silent(), None, stopping, log, no_crash)
    sent: list[str] = []

    def send(account: str, job_ids: list[str], lane: Lane) -> None:
        assert (account, lane) == (ACCOUNT, Lane.FIRST)
        sent.extend(job_ids)

    rescuer = Rescuer(settings, ledger, keeper, [runner], send, stopping, log, no_crash)
    ours, anothers = begun(ledger, PASSED), begun(ledger, PASSED)
    keeper.hold(ours)

    assert rescuer.step() == 1

    assert sent == [anothers.job_id]
    assert ledger.status(ours.job_id).state is JobState.RUNNING
    assert ledger.finish(ours, COMPLETION)
    ledger.cancel(anothers.job_id)
