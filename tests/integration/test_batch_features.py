"""What a batch tells of itself, what it may cost, and what becomes of it when the account says no."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from mira_producer.batches.client import BatchRefused
from mira_producer.jsonl.errors import InputError

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchOptions, BatchStatus
from tests.support.batch_steps import (
    LINES,
    at,
    end_supervisors,
    entries,
    every_line_once,
    paused,
    results,
    started,
    supervisors,
)
from tests.support.run_process import read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

PRICES = """
currency = "USD"
[models.mira]
prompt = 1000
completion = 2000
"""

pytestmark = pytest.mark.usefixtures("worker")


def priced(queue: MiraQueue, folder: Path, **options: object) -> str:
    """A batch of the usual lines, with a price table."""
    write_lines(folder / "input.jsonl", entries())
    (folder / "prices.toml").write_text(PRICES)
    return queue.batches.submit(
        folder / "input.jsonl",
        options=BatchOptions(**options),  # type: ignore[arg-type]
        prices=folder / "prices.toml",
    ).id


def cost_of(output: Path) -> Decimal:
    usage = [line["response"]["body"]["usage"] for line in read_lines(output)]
    return sum((Decimal(each["prompt_tokens"] + 2 * each["completion_tokens"]) / 1000 for each in usage), Decimal(0))


def test_a_batch_pauses_at_its_cost_and_goes_on_with_a_larger_one(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = priced(batches, tmp_path, max_cost="1.5")

    assert "1.50 USD" in paused(batches, batch_id)
    batch = batches.batches.get(batch_id)
    results(batches, batch_id, tmp_path)
    assert (batch.paused_by, batch.currency) == ("budget", "USD")
    assert Decimal(batch.cost) == cost_of(tmp_path / "output.jsonl")
    # Answers that were longer than those before may exceed it, with the calls that are in flight then.
    assert Decimal("0.5") < Decimal(batch.cost) < Decimal("2.5")
    with pytest.raises(BatchRefused, match="--max-cost"):
        batches.batches.resume(batch_id)

    batches.batches.resume(batch_id, max_cost="1000")
    assert batches.batches.wait(batch_id, 60).status is BatchStatus.COMPLETED
    every_line_once(*results(batches, batch_id, tmp_path))
    assert Decimal(batches.batches.get(batch_id).cost) == cost_of(tmp_path / "output.jsonl")


def test_a_budget_that_is_no_larger_than_what_is_used_is_refused(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = priced(batches, tmp_path, max_requests=5)
    paused(batches, batch_id)

    for number in (3, 5):
        with pytest.raises(BatchRefused, match=f"5 of {number} requests"):
            batches.batches.resume(batch_id, max_requests=number)
    with pytest.raises(BatchRefused, match=r"5 of 5 requests, [0-9]+ of 1 tokens"):
        batches.batches.resume(batch_id, max_tokens=1)
    with pytest.raises(BatchRefused, match=r"[0-9.]+ USD of 0\.0100 USD"):
        batches.batches.resume(batch_id, max_requests=10, max_cost="0.01")
    assert simulator.stats()["calls"] == 5

    batches.batches.resume(batch_id, max_requests=7)
    wait_until("it has used that, too", lambda: "7 of 7 requests" in batches.batches.get(batch_id).paused)


def test_a_cost_needs_prices_and_is_an_amount(batches: MiraQueue, tmp_path: Path) -> None:
    write_lines(tmp_path / "input.jsonl", entries(1))

    with pytest.raises(InputError, match="needs a price table"):
        batches.batches.submit(tmp_path / "input.jsonl", options=BatchOptions(max_cost="1"))
    with pytest.raises(InputError, match="amount above 0"):
        batches.batches.submit(tmp_path / "input.jsonl", options=BatchOptions(max_cost="much"))
    assert batches.batches.all() == []


def test_lines_of_a_model_that_the_plan_lacks_are_left_and_all_others_go_on(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(plans={"free": ["mira"]}, plan="free", latency_s=0.5)
    lines = [{**entry, "model": "mira" if number % 4 else "mira-max"} for number, entry in enumerate(entries())]
    write_lines(tmp_path / "input.jsonl", lines)
    batch_id = batches.batches.submit(tmp_path / "input.jsonl").id

    wait_until("it says so while it goes on", lambda: batches.batches.get(batch_id).held_models == ("mira-max",))
    simulator.configure(latency_s=0)
    reason = paused(batches, batch_id)
    assert "mira-max: model_not_in_plan (403): " in reason
    assert "'line-0'" in reason
    assert batches.batches.get(batch_id).answered == LINES * 3 // 4

    seen = simulator.stats()["calls"]
    batches.batches.resume(batch_id)
    assert batches.batches.wait(batch_id, 60).paused_by == "account"
    assert simulator.stats()["calls"] == seen + 1

    simulator.configure(plans={"free": ["mira", "mira-max"]})
    batches.batches.resume(batch_id)
    assert batches.batches.wait(batch_id, 60).status is BatchStatus.COMPLETED
    every_line_once(*results(batches, batch_id, tmp_path))


def test_with_fail_each_refused_line_has_its_error_and_can_be_tried_again(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(balance_calls=50)
    batch_id = priced(batches, tmp_path, on_account_error="fail")

    batch = at(batches, batch_id, BatchStatus.COMPLETED)
    assert batch.codes == {"balance_used_up (402)": LINES - 50}
    results(batches, batch_id, tmp_path)
    error = read_lines(tmp_path / "errors.jsonl")[0]
    assert error["response"]["status_code"] == 402
    assert error["response"]["body"] == {"detail": "Insufficient balance"}

    simulator.configure(balance_calls=None)
    with pytest.raises(BatchRefused, match="no failed line has 5xx or batch_cancelled"):
        batches.batches.retry(batch_id, ["5xx", "batch_cancelled"])
    assert batches.batches.get(batch_id).status is BatchStatus.COMPLETED
    batches.batches.retry(batch_id, ["402"])
    batch = batches.batches.wait(batch_id, 60)
    assert (batch.status, batch.answered, batch.codes) == (BatchStatus.COMPLETED, LINES, {})
    every_line_once(*results(batches, batch_id, tmp_path))


def test_refused_lines_of_a_paused_batch_whose_deadline_passes_keep_their_error_for_good(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(balance_calls=50)
    batch_id = priced(batches, tmp_path, deadline_s=int(time.time()) + 600)
    paused(batches, batch_id)
    refused = simulator.stats()["calls"] - 50
    end_supervisors(batches)
    batch = batches.ledger.batch(batch_id)
    batches.ledger.write_batch(replace(batch, options=replace(batch.options, deadline_s=int(time.time()) - 1)))

    batch = at(batches, batch_id, BatchStatus.EXPIRED)

    assert batch.codes == {"balance_used_up (402)": refused, "batch_expired": LINES - 50 - refused}
    every_line_once(*results(batches, batch_id, tmp_path))
    assert not [line for line in read_lines(tmp_path / "errors.jsonl") if "runs_again" in line["error"]]
    assert simulator.stats()["calls"] == 50 + refused


def test_with_dedupe_a_request_is_sent_and_counted_once_and_answers_each_line(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    lines = [{"custom_id": f"line-{number}", "prompt": f"question {number % 10}"} for number in range(LINES)]
    write_lines(tmp_path / "input.jsonl", lines)
    batch_id = batches.batches.submit(tmp_path / "input.jsonl", options=BatchOptions(dedupe=True)).id

    batch = at(batches, batch_id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch_id, tmp_path))
    assert simulator.stats()["calls"] == 10
    usage = [line["response"]["body"]["usage"]["total_tokens"] for line in read_lines(tmp_path / "output.jsonl")]
    assert (batch.prompt_tokens + batch.completion_tokens) * LINES // 10 == sum(usage)


def test_what_it_says_of_itself_survives_its_supervisor(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(latency_s=0.5, moderation_words=["question 7 "])
    batch_id = priced(batches, tmp_path)
    wait_until("some are answered", lambda: batches.batches.get(batch_id).answered > 20)
    going = batches.batches.get(batch_id)
    assert going.per_second > 0
    assert going.seconds_left is not None
    for pid in supervisors(batches):
        os.kill(pid, signal.SIGKILL)
    simulator.configure(latency_s=0)

    batch = at(batches, batch_id, BatchStatus.COMPLETED)

    results(batches, batch_id, tmp_path)
    assert batch.codes == {"content_blocked (422)": 1}
    assert Decimal(batch.cost) == cost_of(tmp_path / "output.jsonl")
    usage = [line["response"]["body"]["usage"] for line in read_lines(tmp_path / "output.jsonl")]
    assert batch.prompt_tokens == sum(each["prompt_tokens"] for each in usage)


def test_a_report_holds_what_the_files_hold(batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path) -> None:
    simulator.configure(moderation_words=["question 7 "])
    batch_id = priced(batches, tmp_path)
    at(batches, batch_id, BatchStatus.COMPLETED)

    batches.batches.report(batch_id, tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    results(batches, batch_id, tmp_path)
    assert f"{cost_of(tmp_path / 'output.jsonl'):.2f} USD" in page
    assert "199 of 200" not in page
    assert "200 of 200 lines in this batch" in page
    assert "content_blocked (422)" in page
    assert "line-7" in page
    assert "Slowest lines" in page
    with pytest.raises(InputError, match="cannot be written"):
        batches.batches.report(batch_id, tmp_path / "nowhere" / "report.html")


def test_asking_often_while_a_supervisor_starts_starts_no_other(batches: MiraQueue, tmp_path: Path) -> None:
    write_lines(tmp_path / "input.jsonl", entries(3))
    batch_id = batches.batches.submit(tmp_path / "input.jsonl").id
    for _ in range(50):
        batches.batches.get(batch_id)

    assert len(started(batches.settings)) == 1


def test_a_supervisor_that_has_ended_leaves_no_zombie_with_whoever_started_it(
    batches: MiraQueue, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", entries(3))
    batches.batches.submit(tmp_path / "input.jsonl")
    (supervisor,) = started(batches.settings)
    os.kill(supervisor, signal.SIGKILL)

    wait_until("it is gone", lambda: not Path(f"/proc/{supervisor}").exists())


@pytest.mark.parametrize(
    ("name", "options", "metadata", "complaint"),
    [
        (".", {}, {}, "is a directory"),
        ("missing.jsonl", {}, {}, "no such file"),
        ("input.jsonl", {"on_account_error": "ignore"}, {}, "expected pause or fail"),
        ("input.jsonl", {"max_tokens": -1}, {}, "expected 0"),
        ("input.jsonl", {"deadline_s": 1}, {}, "has passed already"),
        ("input.jsonl", {}, {"key": "x" * 513}, "at most 512 characters"),
        ("input.jsonl", {}, {str(number): "" for number in range(17)}, "over the limit of 16"),
    ],
)
def test_what_cannot_be_submitted_is_said_at_once_and_leaves_nothing(
    queue: MiraQueue, tmp_path: Path, name: str, options: dict[str, object], metadata: dict[str, str], complaint: str
) -> None:
    write_lines(tmp_path / "input.jsonl", entries(1))

    with pytest.raises(InputError, match=complaint) as caught:
        queue.batches.submit(
            tmp_path / name,
            options=BatchOptions(**options),  # type: ignore[arg-type]
            metadata=metadata,
        )

    assert "\n" not in str(caught.value)
    assert queue.batches.all() == []
    assert not list(queue.batches.spool.ids())


def test_a_batch_without_failed_lines_has_none_to_retry(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = priced(batches, tmp_path)
    at(batches, batch_id, BatchStatus.COMPLETED)

    with pytest.raises(BatchRefused, match="has no failed line"):
        batches.batches.retry(batch_id)
    with pytest.raises(InputError, match="402"):
        batches.batches.retry(batch_id, ["4xx;"])
    assert results(batches, batch_id, tmp_path)[1] == Counter()
