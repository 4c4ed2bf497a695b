"""A batch as an object: OpenAI's fields, and what it was when a newer or an older version wrote it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import orjson

from mira_queue.contract.batch import Batch, BatchOptions, BatchStatus, Reason
from mira_queue.contract.problem import Problem

BATCH = Batch("batch_1", BatchStatus.IN_PROGRESS, "input.jsonl", "host:/state/batches/batch_1", 1000)
# Of the batch object in OpenAI's API reference; its official client refuses a usage without the details.
FIELDS = {
    "id", "object", "endpoint", "model", "errors", "input_file_id", "completion_window", "status",
    "output_file_id", "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at",
    "failed_at", "expired_at", "cancelling_at", "cancelled_at", "request_counts", "usage", "metadata",
}  # fmt: skip
USAGE = {"input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens"}


def test_it_has_the_fields_of_openai_and_one_of_ours() -> None:
    shown = BATCH.to_object()

    assert set(shown) == FIELDS | {"mira"}
    assert set(shown["usage"]) == USAGE
    assert set(shown["request_counts"]) == {"total", "completed", "failed"}


def test_a_wrong_input_is_a_list_of_errors_with_line_numbers() -> None:
    wrong = Problem("input.jsonl", 6, "body.model", "invalid_request", "is empty")
    batch = BATCH.moved(BatchStatus.FAILED, 1001, errors=(wrong,))

    assert batch.to_object()["errors"] == {
        "object": "list",
        "data": [{"code": "invalid_request", "message": "is empty", "param": "body.model", "line": 6}],
    }
    assert batch.to_object()["failed_at"] == 1001
    assert batch.to_object()["output_file_id"] is None


def test_it_is_read_as_it_was_written() -> None:
    batch = dataclasses.replace(
        BATCH,
        options=BatchOptions(max_cost="1.50", dedupe=True),
        errors=(Problem("input.jsonl", reason="all wrong"),),
        codes={"unreachable": 2},
        held_models=("mira-max",),
        waiting=Reason("limit", "account limit: 60 in 60 s", timedelta(seconds=30)),
    )

    assert Batch.from_json(batch.to_json()) == batch


def test_what_an_older_version_lacks_and_a_newer_one_added_does_no_harm() -> None:
    written = orjson.loads(BATCH.to_json())
    for name in ("waiting", "held_models", "codes", "cost"):
        del written[name]
    written["colour"] = "blue"
    written["options"]["speed"] = 3
    written["origin"]["region"] = "north"

    assert Batch.from_json(orjson.dumps(written)) == BATCH


def test_one_that_goes_on_again_has_not_ended() -> None:
    ended = BATCH.moved(BatchStatus.CANCELLING, 1001).moved(BatchStatus.FINALIZING, 1002)
    ended = ended.moved(BatchStatus.CANCELLED, 1003)

    again = ended.moved(BatchStatus.IN_PROGRESS, 1004).to_object()

    assert again["in_progress_at"] == 1004
    assert [again[f"{name}_at"] for name in ("cancelling", "finalizing", "cancelled")] == [None, None, None]
