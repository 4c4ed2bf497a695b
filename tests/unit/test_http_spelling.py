"""Messages over HTTP name parameters of the API, not options of the command line."""

from __future__ import annotations

import pytest
from mira_producer.gateway.http.errors import translated
from mira_producer.gateway.http.spelling import http_spelling
from mira_producer.gateway.jobs.field_names import wrong_name

from mira_queue import BatchRefused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a larger one: --max-cost, --max-tokens", "a larger one: max_cost, max_tokens"),
        ("--changed rerun", "changed rerun"),
        ("a--b -- c", "a--b -- c"),
    ],
)
def test_options_become_parameters(text: str, expected: str) -> None:
    assert http_spelling(text) == expected


def test_a_refused_command_advises_parameters() -> None:
    found = translated(BatchRefused("resume it with a larger one: --max-cost"))

    assert found is not None
    assert found.message.endswith("max_cost")
    assert "--" not in found.message


def test_a_field_that_the_api_may_know_passes() -> None:
    assert (wrong_name("top_k"), wrong_name("temperature")) == ("", "")
    assert "temperature" in wrong_name("temprature")
