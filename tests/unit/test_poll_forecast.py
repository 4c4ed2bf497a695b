"""When a client should ask for an open job again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from mira_producer.gateway.jobs.poll_forecast import PollForecast

from mira_queue import JobState, JobStatus
from mira_queue.contract.pace import Estimate
from mira_queue.ledger.accounts import PaceView

NOW_MS = 1_000_000


def view(open_for_s: float = 0, next_in_s: float = 0) -> PaceView:
    open_for, next_in = timedelta(seconds=open_for_s), timedelta(seconds=next_in_s)
    return PaceView("account", "", Estimate(), "", open_for, 0, 0, NOW_MS, next_in)


def job(due_in_s: float | None = None) -> JobStatus:
    due_ms = None if due_in_s is None else NOW_MS + round(1000 * due_in_s)
    return JobStatus("id", JobState.WAITING, 0, due_ms=due_ms, account="account")


@pytest.mark.parametrize(
    ("account", "waiting", "expected_s"),
    [
        (view(), job(), 1),
        (view(open_for_s=30), job(), 30),
        (view(next_in_s=7), job(), 7),
        (view(open_for_s=5), job(due_in_s=20), 20),
        (view(open_for_s=3600), job(), 120),
    ],
)
def test_a_client_asks_again_when_the_job_may_call(account: PaceView, waiting: JobStatus, expected_s: float) -> None:
    assert PollForecast(lambda _: account).poll_after_s(waiting) == pytest.approx(expected_s, abs=0.5)


def test_many_clients_share_one_look_at_their_account() -> None:
    read: list[str] = []

    def look(account: str) -> PaceView:
        read.append(account)
        return view(open_for_s=30)

    forecast = PollForecast(look)
    for _ in range(5):
        forecast.poll_after_s(job())

    assert read == ["account"]
