"""The overview's sentences and numbers: why things wait, how far limits are used, and what ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from mira_producer.cost.prices import Price, Prices
from mira_producer.page.accounts.account_state import AccountState, state_of
from mira_producer.page.accounts.limit_chart import change_text, charts_of
from mira_producer.page.batches import batch_state
from mira_producer.page.overview.activity_numbers import numbers_of
from mira_producer.page.overview.waits import waits_of
from mira_producer.page.visitor import Audience
from mira_producer.page.workers.worker_state import worker_states

from mira_queue.contract.batch import Batch, BatchStatus, Reason
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure
from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, LimitChange
from mira_queue.ledger.account_details import AccountDetails
from mira_queue.ledger.accounts import LiveWorker, PaceView
from mira_queue.ledger.activity import MINUTE_MS, Activity, Ends, Tokens
from mira_queue.ledger.queue_stats import AccountStats
from mira_queue.ledger.timelines import RunningJob

NOW_MS = 1_800_000_030_000
ALL = Audience("", may_act=True)
RATE, IN_FLIGHT = Limit(60, 60_000, NOW_MS), Limit(3, 5_000, NOW_MS)
PACE = PaceView("prod", "https://api.example.com/v1", Estimate(), "", timedelta(0), 0, 0, NOW_MS, workers=1)
NO_LIMITS = ConfiguredLimits()
NO_MONEY = Failure("insufficient_balance", "the balance is used up.", status=402)


def account(
    pace: PaceView = PACE, details: AccountDetails | None = None, queued: int = 0, limits: ConfiguredLimits = NO_LIMITS
) -> AccountState:
    waiting = {lane: queued if lane is Lane.NORMAL else 0 for lane in Lane}
    stats = AccountStats(pace, waiting, dict.fromkeys(Lane, 0), 0, 0)
    return state_of(stats, details or AccountDetails(120_000, 0), limits)


def test_an_open_circuit_breaker_is_a_wait_until_a_time() -> None:
    pace = replace(PACE, estimate=Estimate(rate=RATE), breaker="limit", open_for=timedelta(seconds=12))

    (wait,) = waits_of([account(pace, queued=5)], [])

    assert (wait.mark, wait.until_ms, wait.next_is) == ("warn", NOW_MS + 12_000, "call")
    assert "5 jobs wait" in wait.text
    assert "60 per 60 s" in wait.text


def test_an_outage_waits_for_a_probe_with_the_servers_message_and_can_be_checked() -> None:
    pace = replace(PACE, breaker="faults", open_for=timedelta(seconds=3), message="HTTP 503: down")

    (wait,) = waits_of([account(pace, queued=1)], [])

    assert (wait.next_is, wait.message, wait.action) == ("probe", "HTTP 503: down", "/accounts/prod/check")
    assert "1 job waits" in wait.text


def test_a_rejected_account_is_the_first_wait_and_says_how_to_go_on() -> None:
    rejected = account(details=AccountDetails(1000, 0, {"": NO_MONEY}), queued=3)
    other = account(replace(PACE, account="other", workers=0), queued=2)

    first, second = waits_of([other, rejected], [])

    assert {first.mark, second.mark} == {"bad"}
    (wait,) = [each for each in (first, second) if each.place == "/accounts/prod"]
    assert "insufficient_balance" in wait.text
    assert (wait.action, wait.label) == ("/accounts/prod/check", "Check the account now")
    assert "resume" in wait.advice


def test_a_model_that_the_plan_lacks_does_not_hide_why_the_other_jobs_wait() -> None:
    pace = replace(PACE, breaker="limit", open_for=timedelta(seconds=2))
    waits = waits_of([account(pace, AccountDetails(1000, 0, {"mira-pro": NO_MONEY}), queued=1)], [])

    assert ["mira-pro" in wait.text for wait in waits] == [True, False]


def test_jobs_without_a_worker_need_the_user() -> None:
    (wait,) = waits_of([account(replace(PACE, workers=0), queued=1)], [])

    assert wait.mark == "bad"
    assert "mira-queue worker" in wait.advice


def test_a_queue_without_jobs_waits_for_nothing() -> None:
    assert waits_of([account(), account(replace(PACE, workers=0))], []) == []


def batch(**changes: Any) -> Batch:
    made = Batch("batch_1", BatchStatus.IN_PROGRESS, "in.jsonl", "vm:/x", 1, total=10, answered=4, account="prod")
    return replace(made, **changes)


def test_a_paused_batch_is_a_wait_and_one_that_waits_for_its_account_is_not_named_twice() -> None:
    waiting = batch_state.state_of(batch(waiting=Reason("limit", "account limit: 60 per 60 s")))
    paused = batch_state.state_of(batch(paused="the balance is used up", paused_by="account"))
    limited = account(replace(PACE, breaker="limit", open_for=timedelta(seconds=2)), queued=1)

    assert [wait.place for wait in waits_of([limited], [waiting, paused])] == ["/batches/batch_1", "/accounts/prod"]
    assert [wait.place for wait in waits_of([account()], [waiting])] == ["/batches/batch_1"]
    (wait,) = waits_of([], [paused])
    assert (wait.action, wait.label) == ("/batches/batch_1/resume", "Resume")
    assert "6 lines" in wait.text


@pytest.mark.parametrize(
    ("estimate", "limits", "in_flight", "rate"),
    [
        (Estimate(start=8), ConfiguredLimits(), 8, 0),
        (Estimate(rate=RATE, in_flight=IN_FLIGHT), ConfiguredLimits(), 3, 60),
        (Estimate(in_flight=replace(IN_FLIGHT, step=2)), ConfiguredLimits(), 5, 0),
        (Estimate(in_flight=IN_FLIGHT), ConfiguredLimits(in_flight=2), 2, 0),
        (Estimate(), ConfiguredLimits(rate=100, window_ms=120_000), 2, 100),
    ],
)
def test_use_is_compared_with_the_limit_that_applies(
    estimate: Estimate, limits: ConfiguredLimits, in_flight: int, rate: int
) -> None:
    state = account(replace(PACE, estimate=estimate, in_flight=4), AccountDetails(120_000, 70), limits=limits)

    assert (state.in_flight.used, state.in_flight.limit) == (4, in_flight)
    assert (state.rate.used, state.rate.limit) == (70, rate)
    assert state.in_flight.shown <= state.in_flight.limit


def test_numbers_are_the_sum_of_all_accounts_over_the_last_minute_the_last_hour_and_today() -> None:
    minute = NOW_MS // MINUTE_MS * MINUTE_MS
    ends = [
        Ends(minute - MINUTE_MS, "job", "", 40),
        Ends(minute, "job", "timeout", 3),
        Ends(minute, "line", "", 7),
        Ends(minute, "line", "cancelled", 5),
    ]
    hour = NOW_MS // 3_600_000 * 3_600_000
    hours = {(hour, "mira"): Tokens(1_000_000, 2_000_000, 1), (hour - 48 * 3_600_000, "mira"): Tokens(9, 9)}
    activity = Activity("prod", NOW_MS, ends, Counter(), hours)
    other = Activity("other", NOW_MS, [], Counter(), {(hour, "unknown"): Tokens(10, 20)})

    numbers = numbers_of([activity, other], NOW_MS, Prices("USD", {"mira": Price(Decimal("0.5"), Decimal(2))}))

    # Half of this minute has passed: half of the one before counts.
    assert (numbers.jobs_per_minute, numbers.lines_per_minute) == (23, 7)
    assert (numbers.answered, numbers.failed, numbers.cancelled) == (47, 3, 5)
    assert numbers.codes == [("timeout", 3)]
    assert (numbers.prompt_tokens, numbers.completion_tokens) == (1_000_010, 2_000_020)
    assert (numbers.cost, numbers.uncounted) == ("4.50 USD", 1)
    assert numbers.cost_note.startswith("30 tokens")
    assert (len(numbers.bars), numbers.top) == (60, 40)
    assert numbers_of([activity], NOW_MS, Prices()).cost == numbers_of([activity], NOW_MS, None).cost == ""
    assert numbers_of([], 0, Prices()).top == 0


def test_what_a_worker_does_is_its_calls_and_the_jobs_that_wait() -> None:
    live = [LiveWorker("prod", "7@vm"), LiveWorker("other", "7@vm"), LiveWorker("prod", "8@vm")]
    running = [
        RunningJob("a", "7@vm", 1, 50, "mira", "", "app1"),
        RunningJob("b", "7@vm", 1, 40, "mira", "g1", ""),
        RunningJob("c", "7@vm", 1, None, "mira", "", "app1"),
        RunningJob("d", "gone@vm", 1, 5, "mira", "", "app1"),
    ]
    states = worker_states(live, running, {"g1": batch()}, ALL)

    busy, idle = states
    assert (busy.accounts, busy.in_flight, busy.waiting) == (["other", "prod"], 2, 1)
    assert [call.place for call in busy.calls] == ["/batches/batch_1", "/jobs/a"]
    assert idle.words == "idle"
    # A key of another project sees that the worker is busy, and not with what.
    (stranger, _) = worker_states(live, running, {}, Audience("app2", may_act=False))
    assert [call.place for call in stranger.calls] == ["", ""]
    assert "a" not in [call.title for call in stranger.calls]


def test_a_chart_of_limits_has_a_gap_while_none_was_known() -> None:
    changes = [LimitChange(NOW_MS - 90_000, 60, 60_000, 0), LimitChange(NOW_MS - 60_000, 0, 0, 3)]
    changes.append(LimitChange(NOW_MS - 30_000, 30, 60_000, 3))

    rate, in_flight = charts_of(changes, NOW_MS)

    assert rate.path.count("M") == 2
    assert (rate.values, rate.now, in_flight.now) == ((30, 60), 30, 3)
    assert charts_of([], NOW_MS) == []
    assert "unknown" in change_text(changes[0])
    assert "3 in flight" in change_text(changes[1])
