"""`mira-queue run` with prices and a report: what is said in the end, and the page that is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.queue_process import API_KEY, WorkerProcess
from tests.support.run_process import ANSWERS, read_lines, run_to_the_end, write_lines
from tests.support.simulator_process import SimulatorProcess

INPUT = "input.jsonl"
REPORT = "out.html"
PRICES = 'currency = "EUR"\n[models.mira]\nprompt = 1_000_000\ncompletion = 2_000_000\n'


@pytest.fixture
def target(worker: WorkerProcess, redis_url: str, simulator: SimulatorProcess) -> dict[str, Any]:
    return {"redis_url": redis_url, "api_base": simulator.url}


def test_a_run_says_what_it_cost_and_leaves_a_page(tmp_path: Path, target: dict[str, Any]) -> None:
    prompts = [{"custom_id": f"<i>{number}", "prompt": f"Question {number}"} for number in range(20)]
    blocked = {"custom_id": "<b>bad", "prompt": "[[sim:moderation]] a secret of mine"}
    write_lines(tmp_path / INPUT, [*prompts, blocked])
    (tmp_path / "prices.toml").write_text(PRICES)

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--report", REPORT, **target)

    assert (run.wait(), run.said()) == (1, run.said())
    usages = [line["response"]["body"]["usage"] for line in read_lines(tmp_path / ANSWERS)]
    cost = sum(usage["prompt_tokens"] + 2 * usage["completion_tokens"] for usage in usages)
    assert (float(run.summary()["cost"]), run.summary()["currency"]) == (cost, "EUR")
    assert f"; {cost:,}.00 EUR" in run.said()
    assert f"report: {REPORT}" in run.said()
    page = (tmp_path / REPORT).read_text(encoding="utf-8")
    for words in ("content_blocked (422)", "&lt;b&gt;bad", "&lt;i&gt;", f"{cost:,}.00 EUR", "Throughput", "<svg"):
        assert words in page
    assert "<i>" not in page
    assert API_KEY not in page
    assert "a secret of mine" in page

    # All is done: a page of nothing would only take the place of this one.
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--report", REPORT, **target)
    assert "nothing was sent" in again.said()
    assert (tmp_path / REPORT).read_text(encoding="utf-8") == page


def test_after_a_resume_the_page_covers_the_whole_file_and_hides_its_content_on_request(
    tmp_path: Path, target: dict[str, Any]
) -> None:
    prompts = [{"custom_id": f"line-{number}", "prompt": f"A secret {number}"} for number in range(8)]
    write_lines(tmp_path / INPUT, prompts[:5])
    assert run_to_the_end(tmp_path, INPUT, "--workers", "0", **target).wait() == 0
    write_lines(tmp_path / INPUT, prompts)
    hidden = {**target, "report_content": "hidden"}

    assert run_to_the_end(tmp_path, INPUT, "--workers", "0", "--report", REPORT, **hidden).wait() == 0

    page = (tmp_path / REPORT).read_text(encoding="utf-8")
    assert "8 of 8 lines" in page
    assert all(line["custom_id"] in page for line in prompts)
    assert "A secret" not in page


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--report", "no-folder/out.html"), "no-folder/out.html: cannot be written"),
        (("--report", INPUT), "is a file of the run itself"),
        (("--report", ANSWERS), "is a file of the run itself"),
        (("--prices", "none.toml"), "none.toml: cannot be read: No such file or directory"),
        (("--prices", INPUT), "TOML"),
    ],
)
def test_what_is_wrong_with_prices_or_report_is_said_before_anything_is_sent(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, arguments: tuple[str, ...], complaint: str
) -> None:
    content = write_lines(tmp_path / INPUT, [{"prompt": "Question"}]).read_bytes()

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", *arguments, **target)

    assert run.wait() == 2
    assert complaint in run.said()
    assert "Traceback" not in run.said()
    assert simulator.stats()["calls"] == 0
    assert (tmp_path / INPUT).read_bytes() == content
