"""What a batch's owner reads: complaints about its input, what it waits for, and that nobody keeps it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mira_producer.cli.batch_view import held_text, reason_of, silence_text, status_text, took_text, wrong_lines
from mira_producer.cli.progress import plain_line
from mira_producer.engine.options import budget_of, with_new_limits
from mira_producer.engine.wait_reason import NOTHING, reason_text

from mira_queue.contract.batch import Batch, BatchStatus, Reason
from mira_queue.contract.commands import Resume
from mira_queue.contract.problem import Problem

BATCH = Batch("batch_1", BatchStatus.IN_PROGRESS, "input.jsonl", "host:/state/batches/batch_1", 1000, total=200)


def test_wrong_lines_are_named_with_how_many_more_there_are() -> None:
    named = tuple(Problem("a.jsonl", line, "prompt", reason="is empty") for line in range(1, 19))
    batch = replace(BATCH, errors=(Problem("a.jsonl", 7, reason="expected a JSON object"), *named))

    first, second, more = wrong_lines(batch, 2)
    assert (first, second) == ("a.jsonl, line 7: expected a JSON object", "a.jsonl, line 1, prompt: is empty")
    assert "17 more" in more
    assert len(wrong_lines(batch, 19)) == 19
    many = replace(batch, errors_left_out=1_200)
    assert "1,200 more" in wrong_lines(many, 19)[-1]
    assert "1,216 more" in wrong_lines(many, 3)[-1]


def test_a_wait_is_shown_as_long_as_it_still_is() -> None:
    batch = replace(
        BATCH, waiting=Reason("limit", "account limit: 60 per 60 s", timedelta(seconds=30)), updated_at=int(time.time())
    )

    reason = reason_of(batch)

    assert reason_text(reason).startswith("account limit: 60 per 60 s, ")
    assert 20 < reason.wait.total_seconds() <= 30
    assert reason_text(reason_of(replace(batch, updated_at=int(time.time()) - 40))) == "account limit: 60 per 60 s"


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

    assert plain_line(batch, NOTHING) == (
        "100 of 200 (50%); 10 failed: 7 content_blocked (422), 3 unreachable; 1 min 40 s left; 2.0/s now; "
        "1.0/s average; 1,000 tokens in, 500 out; 1.25 USD"
    )


def test_a_batch_at_rest_has_no_rate() -> None:
    batch = replace(BATCH, answered=90, paused="by a command", paused_by="owner")

    assert plain_line(batch, NOTHING) == "90 of 200 (45%)"


def test_silence_of_a_supervisor_is_said_with_its_machine() -> None:
    silent = replace(BATCH, updated_at=int(time.time()) - 600)

    assert "host" in silence_text(silent)
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

    assert with_new_limits(options, Resume(100, None, "20.50")) == replace(options, max_requests=100, max_cost="20.50")
    assert with_new_limits(options, Resume(None, 0, "")) == BATCH.options
    assert budget_of(BATCH.options) is None


def test_the_place_of_a_batch_is_a_machine_and_a_folder() -> None:
    assert Path(BATCH.place.partition(":")[2]).name == BATCH.id


def test_a_stopped_run_and_a_paused_batch_are_not_in_progress_for_people() -> None:
    assert status_text(BATCH) == "in_progress"
    assert status_text(replace(BATCH, paused="interrupted", paused_by="interrupt")) == "stopped"
    assert status_text(replace(BATCH, paused="paused by its owner", paused_by="owner")) == "paused"
    assert status_text(replace(BATCH, status=BatchStatus.CANCELLED, paused="x", paused_by="owner")) == "cancelled"
