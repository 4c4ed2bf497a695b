"""Lines that ask the same: one is sent, all get its answer, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mira_producer.cost.prices import Prices
from mira_producer.engine.plan import Plan
from mira_producer.engine.result_writer import Finished, ResultWriter
from mira_producer.jsonl.duplicates import Duplicates
from mira_producer.jsonl.request_line import OpenLine

from mira_queue.contract.batch import BatchFiles, BatchOptions
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from mira_queue.runtime.crash_points import CrashPoints

A, B = "a0" * 16, "b1" * 16


def test_the_first_line_that_asks_is_the_one_that_is_sent() -> None:
    with Duplicates() as duplicates:
        assert [
            duplicates.is_first(A, 2),
            duplicates.is_first(A, 1),
            duplicates.is_first(B, 3),
            duplicates.is_first(A, 2),
        ] == [
            True,
            False,
            True,
            True,
        ]


def test_the_lines_of_a_request_come_in_order() -> None:
    with Duplicates() as duplicates:
        for number, digest in ((10, A), (9, B), (2, A), (1, B)):
            duplicates.add(digest, number, f"id-{number}")

        assert list(duplicates.of(A)) == [(2, "id-2"), (10, "id-10")]
        assert list(duplicates.of("00" * 16)) == []


def planned(folder: Path, prompts: list[str]) -> Plan:
    lines = [json.dumps({"custom_id": f"id-{number}", "prompt": text}) for number, text in enumerate(prompts, 1)]
    (folder / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = BatchFiles(*(folder / name for name in ("in.jsonl", "out", "errors", "record", "prices")))
    options = BatchOptions(dedupe=True)
    return Plan(files, options, Prices(), lambda body: ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS))


def digest_of(prompt: str) -> str:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
    return ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS).digest


def test_an_answer_is_written_for_each_line_that_has_none_and_billed_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text('{"custom_id": "id-4"}\n', encoding="utf-8")
    plan = planned(tmp_path, ["same", "other", "same", "same", "same"])
    answer = Completion("text", "stop", {"prompt_tokens": 3, "completion_tokens": 5}, {"id": "chatcmpl-1"})

    ResultWriter(plan, CrashPoints(None)).write(
        [Finished("job", OpenLine(1, "id-1", digest=digest_of("same")), answer)]
    )

    written = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert [line["custom_id"] for line in written] == ["id-4", "id-1", "id-3", "id-5"]
    assert [line["id"] for line in written[1:]] == ["batch_req_job", "batch_req_job-3", "batch_req_job-5"]
    assert [line["mira"]["calls"] for line in written[1:]] == [1, 0, 0]
    assert {line["response"]["body"]["id"] for line in written[1:]} == {"chatcmpl-1"}
    assert (plan.stats.succeeded, plan.stats.usage.prompt_tokens, plan.stats.usage.completion_tokens) == (3, 3, 5)
    assert plan.left == 1
    plan.close()


def test_an_error_is_written_for_each_line_too(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["same", "same"])

    ResultWriter(plan, CrashPoints(None)).write(
        [Finished("job", OpenLine(2, "id-2", digest=digest_of("same")), Failure("bad_request", "no", 400))]
    )

    errors = [json.loads(line)["custom_id"] for line in (tmp_path / "errors").read_bytes().splitlines()]
    assert errors == ["id-2", "id-1"]
    assert (plan.stats.failed, plan.left) == (2, 0)
    plan.close()


# 100,000 lines that ask the same, and one answer of 2 KB; the process says how much it grew, in KiB.
SPREAD = """
import json, resource, sys
from pathlib import Path
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.contract.outcome import Completion
from mira_producer.engine.result_writer import Finished, ResultWriter
from mira_producer.jsonl.request_line import OpenLine
from tests.unit.test_run_duplicates import digest_of, planned

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder = Path(sys.argv[1])
before = peak_kib()
plan = planned(folder, ["same"] * 100_000)
between = peak_kib()
answer = Completion("text", "stop", {}, {"text": "x" * 2000})
ResultWriter(plan, CrashPoints(None)).write([Finished("job", OpenLine(1, "id-1", digest=digest_of("same")), answer)])
assert plan.left == 0
print(peak_kib() - between)
"""


def test_one_answer_for_very_many_lines_is_written_in_bounded_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SPREAD, str(tmp_path)], check=True, capture_output=True, cwd=root)

    assert int(done.stdout) < 40 * 1024
    assert (tmp_path / "out").stat().st_size > 200_000_000
