"""What `mira-queue validate` finds in a file of requests."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mira_producer.cli.app import app
from mira_producer.cost.prices import Price, Prices
from mira_producer.engine.stats import MAX_MODELS, OTHER_MODELS
from mira_producer.engine.survey import Survey, seconds_of, survey
from mira_producer.jsonl.errors import InvalidInput
from typer.testing import CliRunner

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS

PRICES = Prices("USD", {"mira": Price(Decimal(1), Decimal(2)), "mira-max": Price(Decimal(10), Decimal(20))})


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file_of(*entries: Any) -> Path:
    path = Path("in.jsonl")
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def surveyed(*entries: Any, prices: Prices = PRICES) -> Survey:
    return survey(
        file_of(*entries), lambda body: ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS), "mira", prices
    )


def test_lines_sizes_models_and_tokens_are_added_up() -> None:
    found = surveyed({"prompt": "a"}, {"prompt": "b" * 4000, "model": "mira-max", "max_tokens": 100}, {"prompt": "c"})

    assert (found.lines, found.problems.count, found.largest_line) == (3, 0, 2)
    assert found.models == {"mira": 2, "mira-max": 1}
    assert found.max_completion_tokens == 4096 + 100 + 4096
    # A quarter of the bytes, the names of the fields among them.
    assert 1000 < found.prompt_tokens < 1100
    assert found.bytes / 4 <= found.prompt_tokens <= found.bytes / 4 + 3


def test_the_cost_is_that_of_every_line_at_its_models_price() -> None:
    found = surveyed({"prompt": "a", "max_tokens": 1000}, {"prompt": "b", "max_tokens": 1000, "model": "mira-max"})

    least = (Decimal(2) * 1000 + Decimal(20) * 1000) / 1_000_000
    assert found.max_cost is not None
    assert least < found.max_cost < least + Decimal("0.001")


def test_without_a_price_for_one_of_the_models_there_is_no_cost() -> None:
    assert surveyed({"prompt": "a"}, {"prompt": "b", "model": "mira-pro"}, {"prompt": "c"}).max_cost is None


def test_wrong_lines_are_listed_beside_the_good_ones() -> None:
    found = surveyed({"custom_id": "a", "prompt": "1"}, {"prompt": 2}, {"custom_id": "a", "prompt": "3"})

    assert (found.lines, found.problems.count) == (1, 2)
    assert [(each.line, each.field) for each in found.problems.first] == [(2, "prompt"), (3, "custom_id")]


def test_names_of_models_beyond_the_fiftieth_are_counted_together() -> None:
    found = surveyed(*({"prompt": "a", "model": f"model-{number}"} for number in range(MAX_MODELS + 10)))

    assert len(found.models) == MAX_MODELS + 1
    assert found.models[OTHER_MODELS] == 10


def test_a_file_without_requests_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        surveyed()
    assert [(each.path, each.code) for each in caught.value.problems] == [("in.jsonl", "empty_file")]


def test_the_command_shows_what_a_good_file_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(*({"prompt": str(number)} for number in range(90)))
    monkeypatch.setenv("MIRA_RATE", "60/min")

    said = CliRunner().invoke(app, ["validate", str(path)])

    assert said.exit_code == 0
    assert "90 lines" in said.stdout
    assert "1 min 30 s, at MIRA_RATE" in said.stdout
    assert "--prices FILE" in said.stdout


RATE, IN_FLIGHT = Limit(60, 60_000, 0), Limit(3, 5_000, 0)


@pytest.mark.parametrize(
    ("configured", "estimate", "expected"),
    [
        (ConfiguredLimits(), Estimate(), None),
        (ConfiguredLimits(rate=60, window_ms=60_000), Estimate(), (90, "MIRA_RATE")),
        (ConfiguredLimits(), Estimate(rate=RATE), (90, "the account's limit: 60 in 60 s")),
        # How long a call takes is not known.
        (ConfiguredLimits(), Estimate(in_flight=IN_FLIGHT), None),
        (
            ConfiguredLimits(),
            Estimate(rate=RATE, in_flight=IN_FLIGHT, call_ms=6_000),
            (180, "the account's limit: 3 at a time, 6.0 s each"),
        ),
        (ConfiguredLimits(rate=30, window_ms=60_000), Estimate(rate=RATE), (180, "MIRA_RATE")),
        (ConfiguredLimits(rate=90, window_ms=60_000), Estimate(rate=RATE), (90, "the account's limit: 60 in 60 s")),
    ],
)
def test_the_time_is_that_of_the_slowest_limit_that_is_known(
    configured: ConfiguredLimits, estimate: Estimate, expected: tuple[float, str] | None
) -> None:
    assert seconds_of(90, configured, estimate) == expected


def test_without_a_limit_that_is_known_the_command_says_so_and_starts_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIRA_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MIRA_API_KEY", "sk-mira-" + "0" * 40)

    said = CliRunner().invoke(app, ["validate", str(file_of({"prompt": "a"}))])

    assert "time      unknown" in said.stdout
    assert not (tmp_path / "state").exists()


def test_the_command_names_every_wrong_line_and_its_exit_code_is_1() -> None:
    path = file_of({"prompt": "fine"}, {"prompt": 1}, {"messages": "no list"})

    said = CliRunner().invoke(app, ["validate", str(path)])

    assert said.exit_code == 1
    second, third, total = said.stdout.splitlines()
    assert second.startswith("in.jsonl, line 2, prompt: ")
    assert third.startswith("in.jsonl, line 3, messages: ")
    assert total.startswith("2 of 3 lines")


def test_the_command_prints_json_for_scripts() -> None:
    Path("prices.toml").write_text('currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 2\n', encoding="utf-8")
    path = file_of({"prompt": "fine", "max_tokens": 5000}, {"prompt": 1})

    said = CliRunner().invoke(app, ["validate", str(path), "--json"])

    found = json.loads(said.stdout)
    assert said.exit_code == 1
    assert (found["valid"], found["lines"], found["wrong"], found["currency"]) == (False, 1, 1, "USD")
    assert found["errors"] == [
        {"code": "invalid_request", "message": "expected a string", "param": "prompt", "line": 2}
    ]
    assert found["errors_left_out"] == 0
    assert Decimal(found["max_cost"]) > Decimal("0.01")


def test_a_misspelled_field_is_a_warning_with_its_line_and_the_file_is_valid() -> None:
    path = file_of({"prompt": "a", "top_k": 1}, {"prompt": "b", "temprature": 1}, {"prompt": "c", "temprature": 1})
    result = CliRunner().invoke(app, ["validate", str(path), "--json"])
    (warning,) = json.loads(result.stdout)["warnings"]

    assert result.exit_code == 0
    assert "line 2" in warning
    assert "temperature" in warning
