"""A job that is rejected while other jobs are accepted is the cause; an unlucky one is not."""

from __future__ import annotations

import random

import orjson
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.rejected_alone import MIN_REJECTIONS, after_rejection, is_cause

from mira_queue.contract.call_history import NO_HISTORY, CallHistory


def rejected(times: int, *, others_between: int, others_rejected: int = 0) -> tuple[CallHistory, int, int]:
    """Return the history of a job after rejections, with calls of other jobs between them, and the account's counts."""
    history, sent, rate_limited = NO_HISTORY, 100, 7
    for _ in range(times):
        sent, rate_limited = sent + 1 + others_between, rate_limited + 1 + others_rejected
        history = after_rejection(history, sent, rate_limited)
    return history, sent, rate_limited


def test_a_job_that_only_it_is_rejected_is_the_cause() -> None:
    assert is_cause(*rejected(8, others_between=20))


def test_a_few_rejections_prove_nothing() -> None:
    assert not is_cause(*rejected(MIN_REJECTIONS - 1, others_between=1000))


@given(st.integers(1, 500))
def test_a_job_whose_neighbors_are_rejected_too_is_not_the_cause(times: int) -> None:
    assert not is_cause(*rejected(times, others_between=9, others_rejected=9))


@given(st.integers(1, 500))
def test_a_job_alone_on_its_account_waits_forever(times: int) -> None:
    assert not is_cause(*rejected(times, others_between=0))


@given(st.floats(0, 0.6), st.integers())
def test_a_job_that_is_as_unlucky_as_the_others_is_never_the_cause(share: float, seed: int) -> None:
    chance = random.Random(seed)
    history, sent, rate_limited = NO_HISTORY, 0, 0
    for _ in range(200):
        for _ in range(10):
            sent += 1
            rate_limited += chance.random() < share
        sent += 1
        if chance.random() < share:
            rate_limited += 1
            history = after_rejection(history, sent, rate_limited)
            assert not is_cause(history, sent, rate_limited)
        else:
            history = NO_HISTORY


def test_counts_that_have_restarted_begin_a_new_streak() -> None:
    history, *_ = rejected(7, others_between=50)

    assert after_rejection(history, sent=3, rate_limited=1).rejections == 1


@given(st.builds(CallHistory, st.booleans(), *[st.integers(0, 10**9)] * 6))
def test_a_history_is_stored_and_read_and_fields_of_a_newer_version_are_written_again(history: CallHistory) -> None:
    assert CallHistory.from_json(history.to_json()) == history

    newer = CallHistory.from_json(orjson.dumps({"of_next_year": [1]} | orjson.loads(history.to_json() or b"{}")))
    assert newer == history
    changed = after_rejection(newer, sent=3, rate_limited=1)
    assert orjson.loads(changed.to_json())["of_next_year"] == [1]
    assert orjson.loads(newer.to_json())["of_next_year"] == [1]
