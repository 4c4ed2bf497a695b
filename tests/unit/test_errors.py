"""The error tree: its docstring draws the classes, and every error keeps its type in a Celery result backend."""

from __future__ import annotations

import inspect
import json
import re
from functools import cache

import pytest
from celery import Celery
from celery.backends.base import Backend
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.contract import errors
from mira_queue.contract.errors import RETRIED_STATUSES, JobError, MiraQueueError, error_for_code, error_for_status
from mira_queue.contract.outcome import Failure, celery_result

TREE_LINE = re.compile(r"^    (?:((?:│   |    )*)[├└]── )?([A-Z]\w+)(?:.*  (job|account|service) +(yes|no))?")
ABSTRACT = {errors.JobError, errors.JobFault, errors.AccountFault, errors.ServiceFault}


def rows_in_docstring() -> list[tuple[int, str, str | None, str | None]]:
    """Each class as drawn: its depth, its name, and where they are given, its cause and whether it can be retried."""
    matches = [match for line in (errors.__doc__ or "").splitlines() if (match := TREE_LINE.match(line))]
    return [(0 if row[1] is None else len(row[1]) // 4 + 1, row[2], row[3], row[4]) for row in matches]


def tree_in_docstring() -> dict[str, str | None]:
    """{class: its parent}, as the docstring draws them."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for depth, name, _, _ in rows_in_docstring():
        parents[name] = path[depth - 1] if depth else None
        path[depth:] = [name]
    return parents


def tree_in_code() -> dict[str, str | None]:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MiraQueueError)]
    return {kind.__name__: None if kind is MiraQueueError else kind.__bases__[0].__name__ for kind in classes}


def job_errors() -> list[type[JobError]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, JobError)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@cache
def backend() -> Backend:
    return Backend(app=Celery("test", set_as_current=False))


def test_the_docstring_draws_every_class_under_its_parent() -> None:
    drawn = tree_in_docstring()

    assert len(drawn) > 25
    assert drawn == tree_in_code()


def test_no_two_classes_share_a_code() -> None:
    codes = [kind.code for kind in job_errors() if kind not in ABSTRACT]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", job_errors(), ids=lambda kind: kind.__name__)
def test_a_code_leads_back_to_its_class(kind: type[JobError]) -> None:
    assert error_for_code(kind.code) is (JobError if kind in ABSTRACT else kind)


def test_a_code_of_a_newer_version_is_still_a_job_error() -> None:
    assert error_for_code("invented_next_year") is JobError


@given(st.integers(300, 999))
def test_every_status_that_is_no_success_has_a_class(status: int) -> None:
    kind = error_for_status(status)

    assert error_for_code(kind.code) is kind
    if 400 <= status < 500 and status not in (408, 429, *RETRIED_STATUSES):
        assert not issubclass(kind, errors.ServiceFault)
    if status >= 500:
        assert kind is errors.ServerError


@given(
    kind=st.sampled_from(job_errors()),
    detail=st.text(),
    status=st.none() | st.integers(300, 599),
    attempts=st.integers(0, 1000),
    unanswered_calls=st.integers(0, 1000),
    body=json_values,
)
def test_a_job_error_comes_out_of_celery_as_it_went_in(
    kind: type[JobError], detail: str, status: int | None, attempts: int, unanswered_calls: int, body: object
) -> None:
    error = kind(detail, status, attempts, unanswered_calls, body)
    # What our script stores and what Celery's own backend would: read by Celery's reader.
    ours = celery_result(Failure.from_error(error)) if error_for_code(kind.code) is kind else None
    celerys = backend().prepare_exception(error, "json")

    for stored in filter(None, (ours, celerys)):
        read = backend().exception_to_python(json.loads(json.dumps(stored)))
        assert type(read) is kind
        assert vars(read) == vars(error)
        assert str(read) == str(error)


def test_a_message_names_code_status_and_detail() -> None:
    assert str(errors.BadRequest("no such model", 400)) == "bad_request (400): no such model"
    assert str(errors.Unreachable("no answer")) == "unreachable: no answer"


def test_the_docstring_answers_for_each_class_its_cause_and_whether_the_job_can_be_retried() -> None:
    drawn = {name: (cause, retried) for _, name, cause, retried in rows_in_docstring() if cause}

    for kind in job_errors():
        cause, retried = next((drawn[each.__name__] for each in kind.__mro__ if each.__name__ in drawn), ("job", "no"))
        assert (kind.cause, kind.retryable) == (cause, retried == "yes"), kind


def test_errors_that_python_knows_are_what_python_calls_them() -> None:
    assert issubclass(errors.InvalidRequest, ValueError)
    assert issubclass(errors.ResultTimeout, TimeoutError)
