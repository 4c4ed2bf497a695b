"""Which names `enqueue` accepts as fields of a request."""

from __future__ import annotations

import pytest
from mira_producer.request_fields import (
    _NOT_A_FIELD,
    KNOWN_FIELDS,
    MAX_NAMES,
    WrongNames,
    check_field_names,
    wrong_name,
)

from mira_queue import InvalidRequest


@pytest.mark.parametrize(
    "name", ["countdown", "eta", "queue", "timeout", "priority", "expires", "retry", "task_id", "api_key"]
)
def test_an_option_of_a_task_queue_is_not_a_field(name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a field") as rejected:
        check_field_names(["temperature", name])

    assert rejected.value.field == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("mesages", "messages"),
        ("logprob", "logprobs"),
        ("response_formt", "response_format"),
    ],
)
def test_a_misspelled_field_is_rejected_with_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest, match=f"did you mean {meant}") as rejected:
        check_field_names([name])

    assert rejected.value.field == name


@pytest.mark.parametrize(
    "name", ["top_k", "min_p", "min_tokens", "repetition_penalty", "thinking", "models", "provider", "guided_json"]
)
def test_fields_of_other_servers_and_of_the_future_pass(name: str) -> None:
    check_field_names([name])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("countdown", "delay="),
        ("eta", "not_before="),
        ("queue", "account="),
        ("timeout", "deadline="),
        ("expires", "deadline="),
        ("delay", "--delay"),
        ("priority", "--priority"),
    ],
)
def test_an_option_of_a_task_queue_is_rejected_with_the_name_of_ours(name: str, meant: str) -> None:
    assert meant in wrong_name(name)


def test_a_field_of_the_api_is_never_taken_for_an_option() -> None:
    check_field_names(KNOWN_FIELDS)
    assert not KNOWN_FIELDS & set(_NOT_A_FIELD)


def test_in_a_file_each_wrong_name_is_listed_once_with_its_first_line() -> None:
    names = WrongNames()
    names.add(1, {"top_k"})
    names.add(2, {"temprature", "timeout"})
    names.add(3, {"temprature"})

    assert sorted((number, name) for number, name, _ in names.found) == [(2, "temprature"), (2, "timeout")]
    assert any("temperature" in line and "line 2" in line for line in names.lines())


def test_a_file_of_random_names_does_not_fill_the_memory() -> None:
    names = WrongNames()
    for number in range(2 * MAX_NAMES):
        names.add(number, {f"temprature{number}"})

    assert len(names.found) <= MAX_NAMES
