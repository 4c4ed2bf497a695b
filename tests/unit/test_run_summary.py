"""The end of a run: its exit code, whatever it had done by then."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import orjson
import pytest
from mira_producer.cli.conclusion import conclude
from mira_producer.cost.prices import Prices
from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan
from mira_producer.jsonl.result_line import NOT_RUN, output_line

from mira_queue.contract.batch import BatchOptions
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from tests.support.run_process import files_in, write_lines

ANSWER = Completion("Hi", "stop", {}, {})
ERROR = Failure("content_blocked", "no", 422)
check = partial(ChatRequest.checked, model="mira", limits=MIRA_LIMITS)


@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [
        (End.COMPLETE, ANSWER, 0),
        (End.COMPLETE, ERROR, 1),
        (End.CANCELLED, ANSWER, 0),
        (End.CANCELLED, ERROR, 1),
        # Its input had changed: no error could be written for its lines.
        (End.CANCELLED, None, 1),
        (End.EXPIRED, ERROR, 1),
        (End.ACCOUNT, None, 3),
        (End.BUDGET, None, 3),
        (End.FILES, None, 3),
        (End.INTERRUPTED, None, 130),
    ],
)
def test_an_end_has_its_exit_code(tmp_path: Path, end: End, outcome: Outcome | None, code: int) -> None:
    files = files_in(tmp_path)
    write_lines(files.input, [{"custom_id": "a", "prompt": "Hi"}])
    if outcome is not None:
        path = files.output if isinstance(outcome, Completion) else files.errors
        path.write_bytes(output_line("0123", "a", outcome))
    said: list[str] = []

    with closing(Plan(files, BatchOptions(), Prices(), check)) as plan:
        result = conclude("batch_1", plan, end, end.value, said.append)

    assert (result["exit_code"], result["answered"] + result["failed"]) == (code, int(outcome is not None))
    assert said
    assert orjson.loads(orjson.dumps(result)) == result


def test_lines_that_were_not_run_are_not_counted_in_this_run(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_lines(files.input, [{"custom_id": str(number), "prompt": "Hi"} for number in range(5)])
    said: list[str] = []

    with closing(Plan(files, BatchOptions(), Prices(), check)) as plan:
        outcomes: list[Outcome] = [ANSWER, ERROR, *(Failure(code, "late") for code in NOT_RUN)]
        for outcome in outcomes:
            plan.stats.add(outcome)
        conclude("batch_1", plan, End.EXPIRED, End.EXPIRED.value, said.append)

    assert next(line for line in said if line.startswith("this run")).startswith("this run: 2 lines")
