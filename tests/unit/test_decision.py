"""Policy of a job after its call: every meaning of a response leads to one decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.decision import MAX_COUNTDOWN, Decision, Defer, Finish, Requeue, decide, decide_denied
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited
from mira_worker.retry_after import MAX_WAIT, MIN_WAIT

from mira_queue.contract import errors
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.pace import Permit, StatedWait
from mira_queue.contract.settings import Settings
from mira_queue.ledger.accounts import Counts
from mira_queue.ledger.records import Lease

waits = st.timedeltas(MIN_WAIT, MAX_WAIT)
permanent = st.sampled_from([errors.BadRequest, errors.InvalidKey, errors.ContentBlocked, errors.Poison])
faults = st.sampled_from([errors.ServerError, errors.Unreachable, errors.InvalidResponse, errors.InternalError])
details, statuses = st.text(max_size=20), st.none() | st.integers(200, 599)

completions = st.builds(Completion, details, st.none(), st.just({}), st.just({}))
failures = st.builds(lambda kind, *args: Failed(kind(*args)), permanent, details, statuses)
rate_limits = st.builds(RateLimited, st.builds(errors.RateLimited, details), st.builds(StatedWait, waits))
service_faults = st.builds(
    lambda kind, detail, status, may_be_billed: Fault(kind(detail, status), may_be_billed),
    faults, details, statuses, st.booleans(),
)  # fmt: skip
meanings = st.one_of(completions, failures, rate_limits, service_faults)
leases = st.builds(
    Lease, st.just("a-job"), st.integers(1, 9), st.just(b"{}"),
    attempts=st.integers(0, 9), unanswered_calls=st.integers(0, 9),
)  # fmt: skip
policies = st.builds(
    lambda attempts, base, cap: Settings.model_construct(max_attempts=attempts, backoff_base=base, backoff_cap=cap),
    st.integers(1, 9), st.timedeltas(timedelta(milliseconds=1), timedelta(seconds=9)),
    st.timedeltas(timedelta(seconds=9), timedelta(hours=1)),
)  # fmt: skip


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def decided(meaning: Meaning, lease: Lease, settings: Settings, *, is_charged: bool) -> Decision:
    return decide(meaning, lease, is_charged=is_charged, settings=settings, uniform=middle)


def counts(decision: Decision) -> tuple[int, int]:
    match decision:
        case Finish(outcome=counted) | (Defer() as counted):
            return counted.attempts, counted.unanswered_calls
    raise AssertionError(decision)


@given(meanings, leases, policies, st.booleans())
def test_a_charged_call_is_one_attempt_and_only_a_call_without_an_answer_may_be_billed_again(
    meaning: Meaning, lease: Lease, settings: Settings, is_charged: bool
) -> None:
    may_be_billed = isinstance(meaning, Fault) and meaning.may_be_billed

    decision = decided(meaning, lease, settings, is_charged=is_charged)

    assert counts(decision) == (lease.attempts + is_charged, lease.unanswered_calls + may_be_billed)


@given(completions, leases, policies)
def test_a_completion_is_the_outcome_as_it_was_received(
    completion: Completion, lease: Lease, settings: Settings
) -> None:
    decision = decided(completion, lease, settings, is_charged=True)

    assert isinstance(decision, Finish)
    assert isinstance(decision.outcome, Completion)
    assert (decision.outcome.text, decision.outcome.body) == (completion.text, completion.body)


@given(failures, leases, policies)
def test_a_permanent_error_is_the_outcome_whatever_attempts_are_left(
    meaning: Failed, lease: Lease, settings: Settings
) -> None:
    decision = decided(meaning, lease, settings, is_charged=True)

    assert isinstance(decision, Finish)
    assert isinstance(decision.outcome, Failure)
    assert (decision.outcome.code, decision.outcome.detail) == (meaning.error.code, meaning.error.detail)


@given(rate_limits, leases, policies)
def test_a_rate_limited_job_waits_for_its_retry_after_and_never_fails(
    meaning: RateLimited, lease: Lease, settings: Settings
) -> None:
    decision = decided(meaning, lease, settings, is_charged=False)

    assert isinstance(decision, Defer)
    assert decision.wait == meaning.retry_after.wait
    assert decision.sends_message is (decision.wait <= MAX_COUNTDOWN)


@given(service_faults, leases, policies, st.booleans())
def test_a_fault_is_the_outcome_only_if_it_was_charged_as_the_last_attempt(
    meaning: Fault, lease: Lease, settings: Settings, is_charged: bool
) -> None:
    decision = decided(meaning, lease, settings, is_charged=is_charged)

    assert isinstance(decision, Finish) is (is_charged and lease.attempts + 1 >= settings.max_attempts)
    if isinstance(decision, Defer):
        assert decision.error is meaning.error
        assert timedelta(0) <= decision.wait <= settings.backoff_cap


def test_a_wait_that_the_server_states_is_the_minimum(settings: Settings) -> None:
    fault = Fault(errors.ServerError("busy", 503), False, timedelta(minutes=3))

    decision = decided(fault, Lease("a-job", 1, b"{}"), settings, is_charged=False)

    assert isinstance(decision, Defer)
    assert decision.wait == timedelta(minutes=3)


def test_after_a_408_the_next_call_is_streamed(settings: Settings) -> None:
    decision = decided(Fault(errors.ServerTimeout("", 408), True), Lease("a-job", 1, b"{}"), settings, is_charged=True)

    assert isinstance(decision, Defer)
    assert decision.history.is_streamed


def test_tokens_of_responses_that_could_not_be_used_are_in_the_outcome(settings: Settings) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    broken = Fault(errors.InvalidResponse("", 200), False, usage=usage)
    first = decided(broken, Lease("a-job", 1, b"{}"), settings, is_charged=True)
    assert isinstance(first, Defer)
    lease = Lease("a-job", 2, b"{}", attempts=1, history=first.history)

    answered = decided(Completion("Hi", "stop", {}, {}), lease, settings, is_charged=True)
    failed = decided(Failed(errors.BadRequest("no"), usage), lease, settings, is_charged=True)

    assert isinstance(answered, Finish)
    assert answered.outcome.lost_usage == usage
    assert isinstance(failed, Finish)
    assert failed.outcome.lost_usage == {"prompt_tokens": 14, "completion_tokens": 6}


def test_a_job_that_is_rejected_alone_fails_with_the_message_of_the_server(settings: Settings) -> None:
    lease, account, decisions = Lease("a-job", 1, b"{}"), Counts(), []
    for _ in range(20):
        account = Counts(sent=account.sent + 31, rate_limited=account.rate_limited + 1)
        meaning = RateLimited(errors.RateLimited("too many tokens", 429), StatedWait(timedelta(seconds=1)))
        decision = decide(meaning, lease, is_charged=False, settings=settings, uniform=middle, account=account)
        decisions.append(decision)
        if isinstance(decision, Defer):
            lease = replace(lease, history=decision.history)

    first = next(decision for decision in decisions if isinstance(decision, Finish))
    assert isinstance(first.outcome, Failure)
    assert first.outcome.code == "never_admitted"
    assert "too many tokens" in first.outcome.detail


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0)])
def test_the_wait_after_a_fault_doubles_with_each_attempt(attempts: int, seconds: float, settings: Settings) -> None:
    patient = settings.model_copy(
        update={"max_attempts": 9, "backoff_base": timedelta(seconds=1), "backoff_cap": timedelta(minutes=1)}
    )
    fault = Fault(errors.ServerError("down", 503), may_be_billed=False)

    decision = decided(fault, Lease("a-job", 1, b"{}", attempts), patient, is_charged=True)

    assert isinstance(decision, Defer)
    assert decision.wait == timedelta(seconds=seconds)


@given(leases, st.sampled_from(["wait", "lost"]))
def test_a_job_whose_worker_stops_needs_a_new_message(lease: Lease, verdict: Any) -> None:
    assert decide_denied(Permit(verdict), lease) == Requeue(sends_message=True)


@given(leases, st.sampled_from(["held", "expired"]))
def test_a_job_of_a_batch_that_must_not_start_waits_for_its_supervisor(lease: Lease, verdict: Any) -> None:
    in_batch = replace(lease, group="a-group")

    assert decide_denied(Permit(verdict), in_batch) == Requeue(sends_message=False)


@given(leases)
def test_a_single_job_fails_when_its_deadline_has_passed(lease: Lease) -> None:
    decision = decide_denied(Permit("expired"), lease)

    assert isinstance(decision, Finish)
    assert isinstance(decision.outcome, Failure)
    assert decision.outcome.code == errors.JobExpired.code
    assert counts(decision) == (lease.attempts, lease.unanswered_calls)


@given(leases, failures)
def test_a_job_of_a_rejected_account_gets_the_error_and_no_attempt(lease: Lease, meaning: Failed) -> None:
    decision = decide_denied(Permit("rejected", error=Failure.from_error(meaning.error)), lease)

    assert isinstance(decision, Finish)
    assert isinstance(decision.outcome, Failure)
    assert decision.outcome.code == meaning.error.code
    assert counts(decision) == (lease.attempts, lease.unanswered_calls)
