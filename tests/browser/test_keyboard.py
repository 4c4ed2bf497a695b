"""The view of a batch without a mouse: Tab reaches every action, and Enter takes it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from mira_queue import MiraQueue
from tests.browser.conftest import OpenTab
from tests.browser.test_journey import FAILS_ONCE
from tests.integration.test_gateway_batches import created, ended, line
from tests.support.gateway_process import Gateway
from tests.support.simulator_process import SimulatorProcess

MAX_TABS = 150
FOCUSED = """() => {
    const found = document.activeElement;
    return found.getAttribute("aria-label") || found.innerText || found.name || found.tagName;
}"""
# Elements that a mouse can use.
USABLE = "a[href], button, summary, select, textarea, input:not([type=hidden])"


def reach(tab: Page, name: str) -> None:
    """Press Tab until the element with this name has the focus, and check that the focus is visible."""
    seen = []
    for _ in range(MAX_TABS):
        tab.keyboard.press("Tab")
        seen.append(tab.evaluate(FOCUSED).strip())
        if seen[-1] == name:
            assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    pytest.fail(f"{name} cannot be reached: {seen}")


def press(tab: Page, name: str) -> None:
    reach(tab, name)
    tab.keyboard.press("Enter")


def reachable(tab: Page) -> tuple[int, int]:
    """Return how many elements of the view can be used, and how many of them Tab reaches."""
    tab.evaluate("document.activeElement.blur()")
    tab.evaluate(f"window.reached = new Set(); window.usable = '{USABLE}'")
    for _ in range(MAX_TABS):
        tab.keyboard.press("Tab")
        tab.evaluate("window.reached.add(document.activeElement)")
    return tuple(
        tab.evaluate(
            """() => {
                const all = [...document.querySelectorAll(usable)].filter((each) => each.checkVisibility());
                return [all.length, all.filter((each) => reached.has(each)).length];
            }"""
        )
    )


def test_a_batch_is_paused_resumed_and_cancelled_with_the_keyboard(
    open_tab: OpenTab, gateway: Gateway, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=0.5)
    with gateway.client() as client:
        batch = created(client, [line(f"line-{n}", f"question {n} of the keyboard") for n in range(1000)])
    tab = open_tab(gateway, path=f"/batches/{batch.id}")
    state = tab.locator("#batch-state")
    tab.on("dialog", lambda dialog: dialog.accept())

    press(tab, "Skip to the content")
    press(tab, "Pause")
    expect(state).to_contain_text("paused")
    press(tab, "Resume with another budget")
    expect(tab.get_by_label("Tokens", exact=True)).to_be_visible()
    press(tab, "Resume")
    expect(state).not_to_contain_text("paus")
    press(tab, "Cancel the batch")
    expect(state).to_contain_text("cancelled")
    with MiraQueue(gateway.settings) as queue:
        assert queue.batches.get(batch.id).status == "cancelled"


def test_every_action_of_a_finished_batch_is_reached_and_failed_lines_are_retried(
    open_tab: OpenTab, gateway: Gateway, simulator: SimulatorProcess
) -> None:
    with gateway.client() as client:
        texts = ["good", f"bad {FAILS_ONCE}"]
        batch = created(client, [line(f"line-{n}", f"{text} with the keyboard") for n, text in enumerate(texts)])
        ended(client, batch.id)
    tab = open_tab(gateway, path=f"/batches/{batch.id}")
    expect(tab.locator("#batch-errors")).to_contain_text("unprocessable")

    usable, reached = reachable(tab)
    assert usable == reached > 10
    tab.reload()
    press(tab, "View answers")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Answers")
    tab.go_back()
    with tab.expect_download() as found:
        press(tab, "Download errors")
    assert found.value.suggested_filename.endswith(".jsonl")
    press(tab, "Retry the lines with the error unprocessable")
    expect(tab.locator("#batch-errors")).not_to_contain_text("unprocessable")
    expect(tab.locator("#batch-numbers")).to_contain_text("2 of 2.")
