"""A user's way through the page, on a telephone and on a desktop: from a file with an invalid line to its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mira_queue import MiraQueue
from tests.browser.conftest import OpenTab
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.tab import DESKTOP, PHONE, drop, width_of
from tests.support.waiting import wait_until

# Slow enough to be paused in the middle, on any machine: two calls in flight in each of two workers.
LINES, CONCURRENCY, SLOW_S = 60, 2, 1.0
FAILS_ONCE = "[[sim:422x1]]"
FAILED = 2


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    with started_gateway(api_base=simulator_process.url, concurrency=CONCURRENCY) as running:
        yield running


def request(name: str, content: str) -> str:
    messages = [{"role": "user", "content": content}]
    return json.dumps({"custom_id": name, "body": {"model": "mira", "messages": messages}})


def file_with_an_invalid_line(mark: str) -> str:
    """Return lines of which the first one is invalid, and two more fail once."""
    texts = [f"question {number} {mark} {FAILS_ONCE if number <= FAILED else ''}" for number in range(1, LINES)]
    valid = [request(f"line-{number}", text) for number, text in enumerate(texts, 1)]
    return "\n".join(['{"custom_id": "wrong", "body": {"model": 7}}', *valid]) + "\n"


def click(tab: Page, name: str, role: Any = "button") -> None:
    tab.get_by_role(role, name=name, exact=True).click()


def visit(tab: Page, name: str) -> None:
    tab.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_file_becomes_answers_and_jobs_are_found_and_retried(
    open_tab: OpenTab, gateway: Gateway, simulator: SimulatorProcess, tmp_path: Path, width: int
) -> None:
    mark = f"at {width}"
    simulator.configure(latency_s=SLOW_S)
    tab = open_tab(gateway, width)

    start_batch(tab, mark)
    watch_pause_and_resume(tab)
    simulator.configure(latency_s=0)
    retry_and_download(tab, tmp_path)
    find_and_retry_jobs(tab, gateway, mark)
    assert width_of(tab) <= width
    click(tab, "Sign out")
    expect(tab.get_by_label("API key")).to_be_visible()
    tab.goto("/batches")
    expect(tab).to_have_url(re.compile("/sign-in"))


def start_batch(tab: Page, mark: str) -> None:
    visit(tab, "Batches")
    click(tab, "New batch", "link")
    drop(tab, "questions.jsonl", file_with_an_invalid_line(mark))
    expect(tab.get_by_text(f"1 of {LINES} lines is invalid")).to_be_visible()
    line = tab.get_by_role("textbox", name="Line 1")
    expect(line).to_have_value(re.compile('"model": 7'))
    line.fill(request("fixed", f"question {mark}"))
    click(tab, "Save and check again")
    expect(tab.get_by_text(f"{LINES} lines, all valid")).to_be_visible()
    click(tab, "Start the batch")


def watch_pause_and_resume(tab: Page) -> None:
    """The numbers change without a reload: a live update must not lose this mark of the window."""
    expect(tab.get_by_role("heading", level=1)).to_contain_text("questions")
    tab.evaluate("window.isTheSame = true")
    numbers, state = tab.locator("#batch-numbers"), tab.locator("#batch-state")
    expect(numbers).to_contain_text(re.compile(rf"[1-9]\d* of {LINES}\."))
    expect(numbers).to_contain_text(re.compile(rf"([5-9]|[1-9]\d) of {LINES}\."))
    assert tab.evaluate("window.isTheSame")
    click(tab, "Pause")
    expect(state).to_contain_text("paused")
    click(tab, "Resume")
    expect(state).not_to_contain_text("paused")


def retry_and_download(tab: Page, folder: Path) -> None:
    numbers, errors = tab.locator("#batch-numbers"), tab.locator("#batch-errors")
    expect(numbers).to_contain_text(f"{LINES} of {LINES}.")
    expect(errors).to_contain_text("unprocessable")
    click(tab, "Retry all failed lines")
    expect(errors).not_to_contain_text("unprocessable")
    expect(numbers).to_contain_text(f"{LINES} of {LINES}.")
    with tab.expect_download() as found:
        click(tab, "Download answers", "link")
    found.value.save_as(folder / "answers.jsonl")
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert {line["custom_id"] for line in lines} == {"fixed", *(f"line-{number}" for number in range(1, LINES))}
    assert len(lines) == LINES


def find_and_retry_jobs(tab: Page, gateway: Gateway, mark: str) -> None:
    """Three jobs fail. One is found by its key, and all are retried."""
    tenant = mark.replace(" ", "-")
    with MiraQueue(gateway.settings) as queue:
        jobs = [
            queue.enqueue(
                [{"role": "user", "content": f"job {number} {mark} {FAILS_ONCE}"}],
                key=f"order {number} {mark}",
                metadata={"tenant": tenant},
            )
            for number in range(3)
        ]
        wait_until("they fail", lambda: all(job.status().state == "failed" for job in jobs))
        visit(tab, "Jobs")
        tab.get_by_role("searchbox").fill(f"order 1 {mark}")
        click(tab, "Find")
        expect(tab.get_by_role("heading", level=1)).to_contain_text(jobs[1].id)
        expect(tab.locator("#job")).to_contain_text("unprocessable")

        visit(tab, "Jobs")
        tab.get_by_label("State", exact=True).select_option("failed")
        tab.get_by_label("Metadata").fill(f"tenant={tenant}")
        click(tab, "Filter")
        expect(tab.locator("#jobs table tbody tr")).to_have_count(3)
        click(tab, "Retry all that have failed ...", "link")
        click(tab, "Retry 3 jobs")
        expect(tab.get_by_text("3 of 3 jobs are queued again")).to_be_visible()
        wait_until("they succeed", lambda: all(job.status().state == "succeeded" for job in jobs))
