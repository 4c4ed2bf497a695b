"""What a batch's owner reads: complaints about its input, what it waits for, and that nobody keeps it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mira_producer.batches.commands import budget_of, resume_wish, with_budget
from mira_producer.batches.input_errors import line_errors
from mira_producer.cli.batch_view import BatchCounts, held_text, reason_of, silence_text, took_text, wrong_lines
from mira_producer.cli.progress import plain_line
from mira_producer.engine.wait_reason import NOTHING

from mira_queue.contract.batch import Batch, BatchStatus, LineError, Waiting

COPY = "/state/batches/batch_1/input.jsonl"
BATCH = Batch("batch_1", BatchStatus.IN_PROGRESS, "input.jsonl", "host:/state/batches/batch_1", 1000, total=200)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (f"{COPY}, line 3, custom_id: 'a' is that of line 1 too", (3, "custom_id", "duplicate_custom_id")),
        (f"{COPY}, line 4, column 16: no JSON: unexpected end of data", (4, "column 16", "invalid_json_line")),
        (f"{COPY}, line 5, body.temperature: expected a number", (5, "body.temperature", "invalid_request")),
        (f"{COPY}, line 6: longer than 67,108,864 bytes: one request a line", (6, None, "invalid_request")),
        (f"{COPY}: holds no requests", (None, None, "empty_file")),
        ("... and 12 more", (None, None, "invalid_request")),
    ],
)
def test_a_complaint_is_an_error_with_its_line_its_field_and_a_code(said: str, found: tuple[object, ...]) -> None:
    (error,) = line_errors(said, COPY, "mine.jsonl")

    assert (error.line, error.param, error.code) == found
    assert COPY not in error.message


def test_a_complaint_names_the_file_as_its_owner_does() -> None:
    said = f"{COPY}: is a JSON array, not one request a line: convert it: jq -c '.[]' {COPY} > NEW.jsonl"

    (error,) = line_errors(said, COPY, "mine.json")

    assert error.message.endswith("jq -c '.[]' mine.json > NEW.jsonl")


def test_how_many_are_wrong_is_no_error_of_its_own() -> None:
    said = f"{COPY}, line 3, prompt: is empty\n1 of 9 lines is wrong: nothing was sent"

    assert line_errors(said, COPY, "a.jsonl") == (LineError("is empty", 3, "prompt", "invalid_request"),)


def test_wrong_lines_are_named_with_how_many_more_there_are() -> None:
    named = tuple(LineError("is empty", line, "prompt") for line in range(1, 19))
    batch = replace(BATCH, errors=(LineError("expected a JSON object", 7), *named))

    assert wrong_lines(batch, 2) == ["line 7: expected a JSON object", "line 1, prompt: is empty", "... and 17 more"]
    assert len(wrong_lines(batch, 19)) == 19
    many = replace(batch, errors=(*named, LineError("... and 1,200 more")))
    assert wrong_lines(many, 18)[-1] == "... and 1,200 more"
    assert wrong_lines(many, 3)[-1] == "... and 1,215 more"


def test_a_wait_is_shown_as_long_as_it_still_is() -> None:
    batch = replace(BATCH, waiting=Waiting("limit", "account limit: 60 per 60 s", time.time() + 30))

    reason = reason_of(batch)

    assert str(reason).startswith("account limit: 60 per 60 s, ")
    assert 20 < reason.wait.total_seconds() <= 30
    assert str(reason_of(replace(batch, waiting=Waiting("limit", "account limit", time.time() - 5)))) == "account limit"


def test_a_going_batch_reads_as_a_run_does() -> None:
    batch = replace(
        BATCH,
        answered=90,
        failed=10,
        codes={"unreachable": 3, "content_blocked (422)": 7},
        prompt_tokens=1000,
        completion_tokens=500,
        cost="1.25",
        currency="USD",
        per_second_now=2.0,
        per_second=1.0,
        seconds_left=100,
    )

    assert plain_line(BatchCounts(batch), NOTHING) == (
        "100 of 200 (50%); 10 failed: 7 content_blocked (422), 3 unreachable; 1 min 40 s left; 2.0/s now; "
        "1.0/s average; 1,000 tokens in, 500 out; 1.25 USD"
    )


def test_a_batch_at_rest_has_no_rate() -> None:
    batch = replace(BATCH, answered=90, paused="paused by its owner", paused_by="owner")

    assert plain_line(BatchCounts(batch), NOTHING) == "90 of 200 (45%)"


def test_silence_of_a_keeper_is_said_with_its_machine() -> None:
    silent = replace(BATCH, updated_at=int(time.time()) - 600)

    assert "any mira-queue command on host" in silence_text(silent)
    assert silence_text(replace(silent, paused="by its owner")) == ""
    assert silence_text(replace(silent, status=BatchStatus.COMPLETED)) == ""
    assert silence_text(replace(BATCH, updated_at=int(time.time()))) == ""


def test_models_that_are_left_out_are_named() -> None:
    assert held_text(BATCH) == ""
    assert "mira-max, mira-pro" in held_text(replace(BATCH, held_models=("mira-max", "mira-pro")))


def test_how_long_it_took_is_known_when_it_has_ended() -> None:
    going = BATCH.moved(BatchStatus.IN_PROGRESS, 1000)

    assert took_text(going) == ""
    assert took_text(going.moved(BatchStatus.COMPLETED, 1125)) == "2 min 5 s"


def test_a_resume_changes_the_limits_that_it_names_and_no_others() -> None:
    options = replace(BATCH.options, max_tokens=500, max_cost="1")

    wish = resume_wish(100, None, "20.50").split()

    assert with_budget(options, wish[1:]) == replace(options, max_requests=100, max_cost="20.50")
    assert with_budget(options, resume_wish(None, 0, "").split()[1:]) == BATCH.options
    assert budget_of(BATCH.options) is None


def test_the_place_of_a_batch_is_a_machine_and_a_folder() -> None:
    assert Path(BATCH.place.partition(":")[2]).name == BATCH.id
