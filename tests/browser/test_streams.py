"""Live updates in a browser: a hidden tab has no stream, and a visible one is up to date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, Request, expect

from mira_queue import MiraQueue
from tests.browser.conftest import OpenTab
from tests.support.gateway_process import Gateway
from tests.support.waiting import wait_until

LATER = timedelta(hours=1)
# What the browser does when the user changes to another tab: Playwright cannot hide one.
SHOW = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    Object.defineProperty(document, "visibilityState", { value: hidden ? "hidden" : "visible", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def queue(gateway: Gateway) -> Iterator[MiraQueue]:
    with MiraQueue(gateway.settings) as found:
        yield found
        found.cancel_all()


def is_stream(request: Request) -> bool:
    return "/live/" in request.url


def test_a_hidden_tab_closes_its_stream_and_a_visible_one_opens_it_again(
    open_tab: OpenTab, gateway: Gateway, queue: MiraQueue
) -> None:
    tab = open_tab(gateway)
    opened: list[str] = []
    closed: list[str] = []
    tab.on("request", lambda each: opened.append(each.url) if is_stream(each) else None)
    tab.on("requestfailed", lambda each: closed.append(each.url) if is_stream(each) else None)
    tab.goto("/jobs")
    wait_until("the stream is open", lambda: _poll(tab) and len(opened) == 1)

    tab.evaluate(SHOW, True)
    wait_until("the stream is closed", lambda: _poll(tab) and len(closed) == 1)
    job = queue.enqueue([{"role": "user", "content": "Hello"}], delay=LATER, metadata={"tenant": "hidden"})
    assert len(opened) == 1
    assert job.id not in tab.content()

    tab.evaluate(SHOW, False)
    expect(tab.locator("#jobs")).to_contain_text(job.id)
    assert len(opened) == 2


def test_what_a_user_types_and_where_the_focus_is_survive_an_update(
    open_tab: OpenTab, gateway: Gateway, queue: MiraQueue
) -> None:
    first = queue.enqueue([{"role": "user", "content": "Hello"}], delay=LATER)
    tab = open_tab(gateway, path="/jobs")
    link = tab.get_by_role("link", name="Cancel all ...")
    link.focus()

    second = queue.enqueue([{"role": "user", "content": "Hello again"}], delay=LATER)

    expect(tab.locator("#jobs")).to_contain_text(second.id)
    expect(tab.locator("#jobs")).to_contain_text(first.id)
    expect(link).to_be_focused()


def test_a_page_whose_session_has_ended_leads_to_the_sign_in_form(open_tab: OpenTab, gateway: Gateway) -> None:
    tab = open_tab(gateway)
    tab.context.clear_cookies()
    tab.evaluate(SHOW, True)
    tab.evaluate(SHOW, False)

    expect(tab.get_by_label("API key")).to_be_visible()


def _poll(tab: Page) -> bool:
    """Let Playwright deliver its events."""
    tab.evaluate("0")
    return True
