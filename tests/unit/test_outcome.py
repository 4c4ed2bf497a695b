"""Outcomes: values that go through any result backend and come out the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import Backend
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.contract import errors, token_estimate
from mira_queue.contract.errors import error_for_code
from mira_queue.contract.outcome import (
    Completion,
    Failure,
    Outcome,
    celery_record,
    celery_result,
    celery_state,
    outcome_of,
    outcome_of_record,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODES = [kind.code for kind in (errors.BadRequest, errors.InvalidKey, errors.ServerError, errors.ContentBlocked)]

json_objects = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-99, 99) | st.text(), max_size=4)
completions = st.builds(
    Completion,
    text=st.text(),
    finish_reason=st.none() | st.text(),
    usage=json_objects,
    body=json_objects,
    attempts=st.integers(1, 99),
    unanswered_calls=st.integers(0, 99),
    latency_ms=st.integers(0, 10**6),
)
failures = st.builds(
    lambda code, **fields: Failure(code=code, retryable=error_for_code(code).retryable, **fields),
    code=st.sampled_from(CODES),
    detail=st.text(),
    status=st.none() | st.integers(300, 599),
    attempts=st.integers(0, 99),
    unanswered_calls=st.integers(0, 99),
    body=st.none() | json_objects,
)


@cache
def backend() -> Backend:
    return Backend(app=Celery("test", set_as_current=False))


@given(completions | failures)
def test_celery_reads_our_record_as_the_same_outcome(outcome: Outcome) -> None:
    record = json.loads(celery_record("some-id", outcome, NOW))

    meta = backend().meta_from_decoded(record)

    assert outcome_of(meta["result"]) == outcome
    assert (meta["task_id"], meta["status"]) == ("some-id", celery_state(outcome))


@given(completions | failures)
def test_our_result_is_what_celery_itself_would_store(outcome: Outcome) -> None:
    own = outcome.to_dict() if isinstance(outcome, Completion) else outcome.to_error()
    stored = backend().prepare_exception(own, "json") if isinstance(own, Exception) else own

    assert json.loads(json.dumps(celery_result(outcome))) == json.loads(json.dumps(stored))


@given(failures)
def test_a_failure_and_its_error_are_the_same(failure: Failure) -> None:
    assert Failure.from_error(failure.to_error()) == failure


def test_each_outcome_has_a_state_that_celery_knows() -> None:
    assert celery_state(Completion("", None, {}, {})) == "SUCCESS"
    assert celery_state(Failure.from_error(errors.BadRequest("no"))) == "FAILURE"
    assert celery_state(Failure.from_error(errors.JobCancelled("no"))) == "REVOKED"


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    completion = Completion("hi", "stop", {}, {"id": "x"})

    assert outcome_of({**completion.to_dict(), "invented_next_year": 1}) == completion


@pytest.mark.parametrize("foreign", [None, 3, "text", {}, {"text": "hi"}, ValueError("theirs"), [], {"body": {}}])
def test_the_result_of_somebody_elses_task_is_no_outcome(foreign: Any) -> None:
    with pytest.raises(TypeError):
        outcome_of(foreign)


@given(completions | failures)
def test_we_read_our_record_as_the_same_outcome(outcome: Outcome) -> None:
    assert outcome_of_record(celery_record("some-id", outcome, NOW)) == outcome


@pytest.mark.parametrize(("value", "count"), [(0, 0), (7, 7), (token_estimate.MAX_TOKENS, token_estimate.MAX_TOKENS)])
def test_a_count_of_tokens_is_taken_as_it_is(value: int, count: int) -> None:
    assert token_estimate.count(value) == count


@pytest.mark.parametrize(
    "value", [None, True, -1, 1.5, "7", token_estimate.MAX_TOKENS + 1, 2**63, 2**64 - 1, 2**64, float(2**64)]
)
def test_what_cannot_be_a_count_of_tokens_counts_as_not_reported(value: object) -> None:
    assert token_estimate.count(value) == 0
