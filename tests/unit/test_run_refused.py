"""Lines whose stored error is the account's refusal: in the error file until their run goes on, or for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from mira_producer.cost.prices import Prices
from mira_producer.engine.pending_lines import pending_lines
from mira_producer.engine.plan import Plan
from mira_producer.jsonl.result_line import output_line

from mira_queue.contract.batch import BatchFiles, BatchOptions
from mira_queue.contract.errors import BalanceUsedUp, ContentBlocked, JobError
from mira_queue.contract.outcome import Failure
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from tests.support.run_process import files_in


def check(body: object) -> ChatRequest:
    return ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS)  # type: ignore[arg-type]


def error_line(custom_id: str, kind: type[JobError], status: int, *, runs_again: bool = False) -> bytes:
    return output_line("0123", custom_id, Failure.from_error(kind("no", status)), runs_again=runs_again)


@pytest.fixture
def files(tmp_path: Path) -> BatchFiles:
    """Four lines: 1 is to run again, 2 was refused and failed for good, 3 was blocked, 4 has nothing."""
    files = files_in(tmp_path)
    files.input.write_bytes(b"".join(orjson.dumps({"prompt": f"{n}"}) + b"\n" for n in range(1, 5)))
    files.errors.write_bytes(
        error_line("1", BalanceUsedUp, 402, runs_again=True)
        + error_line("2", BalanceUsedUp, 402)
        + error_line("3", ContentBlocked, 422)
    )
    return files


@pytest.fixture
def plan(files: BatchFiles) -> Iterator[Plan]:
    plan = Plan(files, BatchOptions(), Prices(), check)
    yield plan
    plan.close()


def left(plan: Plan, files: BatchFiles) -> list[int]:
    return [line.number for line in pending_lines(files.input, check, plan.index)]


def stored(files: BatchFiles) -> dict[str, dict[str, object]]:
    lines = [orjson.loads(line) for line in files.errors.read_bytes().splitlines()]
    return {line["custom_id"]: line["error"] for line in lines}


def test_it_is_left_and_has_its_error_until_it_runs_again(plan: Plan, files: BatchFiles) -> None:
    assert (plan.left, plan.stats.failed_before, left(plan, files)) == (2, 3, [4])
    assert stored(files)["1"] == {"code": "balance_used_up", "message": "no", "runs_again": True}

    plan.retry_errors()

    assert (plan.left, plan.stats.failed_before, left(plan, files)) == (2, 2, [1, 4])
    assert list(stored(files)) == ["2", "3"]


def test_one_that_is_final_is_as_any_other_error(plan: Plan, files: BatchFiles) -> None:
    plan.make_errors_final()

    assert (plan.left, left(plan, files)) == (1, [4])
    assert stored(files)["1"] == stored(files)["2"]
    plan.retry_errors()
    assert len(stored(files)) == 3


def test_a_run_that_dies_before_it_runs_again_leaves_it_to_the_next(files: BatchFiles) -> None:
    for _ in range(2):
        plan = Plan(files, BatchOptions(), Prices(), check)
        plan.retry_errors()
        assert left(plan, files) == [1, 4]
        plan.close()


def test_without_refusals_no_file_is_written_anew(files: BatchFiles) -> None:
    files.errors.write_bytes(error_line("2", BalanceUsedUp, 402))
    place = files.errors.stat().st_ino
    plan = Plan(files, BatchOptions(), Prices(), check)
    plan.retry_errors()
    plan.make_errors_final()
    plan.close()

    assert files.errors.stat().st_ino == place
