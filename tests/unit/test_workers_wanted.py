"""Number of workers for a scaler."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from mira_producer.metrics.workers_wanted import demand_of, useful_calls, workers_for, workers_wanted

from mira_queue.contract.names import Lane
from mira_queue.contract.pace import Estimate, Limit
from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.queue_stats import AccountStats

COUNTS = st.integers(0, 10_000_000)
SLOTS = st.integers(1, 1000)
RATES = st.none() | st.floats(0.001, 10_000)
TIMES = st.floats(0, 600)

VIEW = PaceView("a", "https://api.example/v1", Estimate(), "", timedelta(0), 0, 0, 0)
NO_JOBS = dict.fromkeys(Lane, 0)


def stats(view: PaceView, queued: int, waiting: int = 0) -> AccountStats:
    return AccountStats(view, {**NO_JOBS, Lane.BULK: queued}, NO_JOBS, 0, waiting)


def learned(rate: Limit | None, in_flight: int, call_ms: int = 0) -> PaceView:
    limit = Limit(in_flight, 5000, 0)
    return replace(VIEW, estimate=Estimate(rate=rate, in_flight=limit), call_ms=call_ms)


@given(COUNTS, COUNTS, RATES, TIMES)
def test_no_call_is_useful_without_a_job_or_beyond_a_limit_and_one_always_is(
    jobs: int, in_flight: int, rate_per_s: float | None, call_s: float
) -> None:
    calls = useful_calls(jobs, in_flight, rate_per_s, call_s)

    assert (calls == 0) == (jobs == 0)
    assert calls <= min(jobs, max(1, in_flight))
    if rate_per_s is not None and call_s > 0:
        assert calls <= rate_per_s * call_s + 1


@given(COUNTS, COUNTS, COUNTS, RATES, TIMES)
def test_more_jobs_and_higher_limits_never_need_fewer_calls(
    jobs: int, in_flight: int, more: int, rate_per_s: float | None, call_s: float
) -> None:
    calls = useful_calls(jobs, in_flight, rate_per_s, call_s)

    assert useful_calls(jobs + more, in_flight, rate_per_s, call_s) >= calls
    assert useful_calls(jobs, in_flight + more, rate_per_s, call_s) >= calls
    assert useful_calls(jobs, in_flight, None, call_s) >= calls


@given(COUNTS, SLOTS)
def test_the_workers_have_a_slot_for_every_call_and_none_is_idle(calls: int, slots: int) -> None:
    workers = workers_for(calls, slots)

    assert (workers - 1) * slots < calls <= workers * slots or workers == calls == 0


@given(st.lists(st.tuples(COUNTS, COUNTS), max_size=5), SLOTS)
def test_accounts_share_the_slots_of_a_worker(accounts: list[tuple[int, int]], slots: int) -> None:
    demands = [demand_of(stats(learned(None, limit), jobs), slots) for jobs, limit in accounts]

    wanted = workers_wanted(demands, slots)

    assert max((each.workers for each in demands), default=0) <= wanted <= sum(each.workers for each in demands)
    assert (wanted == 0) == all(jobs == 0 for jobs, _ in accounts)


def test_a_concurrency_limit_bounds_the_workers_of_a_million_lines() -> None:
    assert demand_of(stats(learned(None, 100), 1_000_000), 32).workers == 4


def test_a_rate_limit_needs_as_many_calls_in_flight_as_start_during_one() -> None:
    rate = Limit(60, 60_000, 0)

    assert demand_of(stats(learned(rate, 1000, call_ms=30_000), 5000), 32).calls == 30
    # Nothing is known of the calls yet.
    assert demand_of(stats(learned(rate, 1000), 5000), 32).calls == 1000


def test_without_a_known_limit_as_many_calls_are_wanted_as_are_allowed_now() -> None:
    view = replace(VIEW, estimate=Estimate(start=40))

    assert demand_of(stats(view, 500), 32).workers == 2


def test_an_outage_and_a_long_wait_need_one_worker_and_a_short_wait_changes_nothing() -> None:
    view = learned(None, 320)

    def workers(**changes: object) -> int:
        return demand_of(stats(replace(view, **changes), 5000), 32).workers  # type: ignore[arg-type]

    assert workers(breaker="faults", open_for=timedelta(seconds=5)) == 1
    assert workers(breaker="limit", open_for=timedelta(hours=1)) == 1
    assert workers(breaker="limit", open_for=timedelta(seconds=5)) == 10


def test_jobs_that_wait_for_a_retry_need_no_worker() -> None:
    assert demand_of(stats(learned(None, 320), 0, waiting=500), 32).workers == 0
