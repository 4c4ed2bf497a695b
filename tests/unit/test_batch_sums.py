"""What the files of a batch hold, counted: as the run counted it that wrote them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from mira_producer.batches.progress import counted, withdrawn_before
from mira_producer.cost.prices import Price, Prices
from mira_producer.engine.previous_results import written
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.result_line import output_line

from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.ledger.records import LostCalls
from tests.support.run_process import files_in
from tests.unit.test_batch_object import BATCH

PRICES = Prices("USD", {"mira": Price(Decimal(1), Decimal(2)), "mira-pro": Price(Decimal(10), Decimal(20))})
JOB = "6e0956e5-e24f-4a9a-b9d9-907ba2571472"


def answer(model: str, **usage: Any) -> Completion:
    return Completion("Hi", "stop", usage, {"id": "chatcmpl-1", "model": model, "usage": usage})


OUTCOMES: list[Outcome] = [
    answer("mira", prompt_tokens=1000, completion_tokens=37, prompt_tokens_details={"cached_tokens": 900}),
    answer("mira", prompt_tokens=7, completion_tokens=0),
    answer("mira-pro", prompt_tokens=1, completion_tokens=3, completion_tokens_details={"reasoning_tokens": 2}),
    answer("mira-max", prompt_tokens=5, completion_tokens=5),
    answer("mira"),
    Failure("server_error", "down", 503),
    Failure("server_error", "down", 503),
    Failure("batch_expired", "not run"),
]


def test_files_are_counted_as_the_run_did_that_wrote_them(tmp_path: Path) -> None:
    files, stats = files_in(tmp_path), Stats(len(OUTCOMES), 0, 0, PRICES)
    for number, outcome in enumerate(OUTCOMES):
        stats.add(outcome)
        path = files.output if isinstance(outcome, Completion) else files.errors
        with path.open("ab") as file:
            file.write(output_line(JOB, f"line-{number}", outcome))

    found = written(files, PRICES)

    for name in (
        "succeeded", "failed", "codes", "usage", "models",
    ):  # fmt: skip
        assert getattr(found, name) == getattr(stats, name), name
    assert (found.usage.cost, found.usage.unpriced) == (Decimal("0.001151"), 2)


def test_what_a_withdrawn_line_has_cost_stays_counted_when_its_files_are_read_again(tmp_path: Path) -> None:
    """No line of a file has it: the next supervisor finds it in the batch."""
    stats = Stats(2, 0, 0, PRICES)
    stats.add(answer("mira", prompt_tokens=10, completion_tokens=1))
    stats.add_lost(LostCalls(2, {"prompt_tokens": 14, "completion_tokens": 6}), "mira")
    first = counted(BATCH, Stats(2, 0, 0, PRICES), stats)
    assert (first.prompt_tokens, first.completion_tokens, first.unanswered_calls) == (24, 7, 2)
    assert first.cost == "0.000038"

    files = files_in(tmp_path)
    files.output.write_bytes(output_line(JOB, "a", answer("mira", prompt_tokens=10, completion_tokens=1)))
    before = written(files, PRICES)
    before.add_lost(withdrawn_before(first), first.model)
    again = counted(first, before, Stats(2, 1, 0, PRICES))

    assert (again.prompt_tokens, again.completion_tokens, again.unanswered_calls) == (24, 7, 2)
    assert (again.cost, again.withdrawn_usage) == (first.cost, first.withdrawn_usage)


def test_a_line_that_has_the_answer_of_another_used_nothing(tmp_path: Path) -> None:
    files, outcome = files_in(tmp_path), answer("mira", prompt_tokens=1, completion_tokens=1)
    files.output.write_bytes(output_line(JOB, "a", outcome) + output_line(JOB, "b", outcome, copy_number=2))

    found = written(files, PRICES)

    assert (found.succeeded, found.usage.prompt_tokens) == (2, 1)


def test_a_line_whose_fields_are_of_another_type_is_counted_all_the_same(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    for path in (files.output, files.errors):
        path.write_bytes(b'{"custom_id":"a","response":5,"error":7}\n{"custom_id":"b","response":{"body":[]}}\n')

    found = written(files, PRICES)

    assert (found.succeeded, found.failed, found.usage.tokens) == (2, 2, 0)


def test_half_a_line_is_none_yet(tmp_path: Path) -> None:
    files, outcome = files_in(tmp_path), answer("mira", prompt_tokens=1, completion_tokens=1)
    files.output.write_bytes(output_line(JOB, "a", outcome) + output_line(JOB, "b", outcome)[:-1])

    assert written(files, PRICES).succeeded == 1


def test_what_has_ended_since_comes_on_top(tmp_path: Path) -> None:
    before, now = Stats(0, 0, 0, PRICES), Stats(10, 2, 1, PRICES)
    before.add(answer("mira", prompt_tokens=1000, completion_tokens=0))
    before.add(Failure("unreachable", "nobody"))
    now.add(answer("mira", prompt_tokens=1000, completion_tokens=500))
    now.add(Failure("unreachable", "nobody", unanswered_calls=2))

    before.unanswered_calls = 3

    batch = counted(BATCH, before, now)

    assert (batch.total, batch.answered, batch.failed) == (10, 3, 2)
    assert (batch.prompt_tokens, batch.completion_tokens, batch.model) == (2000, 500, "mira")
    assert (batch.codes, batch.unanswered_calls) == ({"unreachable": 2}, 5)
    assert (Decimal(batch.cost), batch.currency) == (Decimal("0.003"), "USD")
    assert batch.per_second > 0
    assert batch.seconds_left is not None


def test_absurd_counts_of_tokens_do_not_keep_a_batch_from_being_stored(tmp_path: Path) -> None:
    files, stats = files_in(tmp_path), Stats(2, 0, 0, PRICES)
    for number in range(2):
        outcome = answer("mira", prompt_tokens=2**64 - 1, completion_tokens=2**64 - 1, total_tokens=2**64 - 1)
        stats.add(outcome)
        with files.output.open("ab") as file:
            file.write(output_line(JOB, f"line-{number}", outcome))

    found = counted(BATCH, written(files, PRICES), stats)

    assert found.uncounted == 4
    assert orjson.loads(found.to_json())["prompt_tokens"] == 0
