"""Live updates in a browser: a hidden tab has no stream, and a visible one is up to date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

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

RECORD = """
    window.streams = [];
    window.EventSource = class extends EventSource {
        constructor(...all) { super(...all); streams.push(this); }
    };
"""
# A connection's state in /proc/net/tcp.
ESTABLISHED = "01"


@pytest.fixture
def queue(gateway: Gateway) -> Iterator[MiraQueue]:
    with MiraQueue(gateway.settings) as found:
        yield found
        found.cancel_all()


def states(tab: Page) -> list[str]:
    """Return the states of all streams that the view has opened."""
    names = ("connecting", "open", "closed")
    return [names[state] for state in tab.evaluate("streams.map((stream) => stream.readyState)")]


def connections(gateway: Gateway) -> int:
    """Return the number of connections to the gateway."""
    port = f":{gateway.port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [row.split() for row in table]
    return sum(local.endswith(port) and state == ESTABLISHED for _, local, _, state, *_ in rows[1:])


def test_a_hidden_tab_closes_its_stream_and_a_visible_one_opens_it_again(
    open_tab: OpenTab, gateway: Gateway, queue: MiraQueue
) -> None:
    tab = open_tab(gateway)
    tab.add_init_script(RECORD)
    tab.goto("/jobs")
    wait_until("the stream is open", lambda: states(tab) == ["open"])
    before = connections(gateway)

    tab.evaluate(SHOW, True)
    assert states(tab) == ["closed"]
    wait_until("the gateway has a connection less", lambda: connections(gateway) < before)
    job = queue.enqueue([{"role": "user", "content": "Hello"}], delay=LATER, metadata={"tenant": "hidden"})
    assert job.id not in tab.content()

    tab.evaluate(SHOW, False)
    expect(tab.locator("#jobs")).to_contain_text(job.id)
    assert states(tab) == ["closed", "open"]


def test_what_a_user_types_and_where_the_focus_is_survive_an_update(
    open_tab: OpenTab, gateway: Gateway, queue: MiraQueue
) -> None:
    first = queue.enqueue([{"role": "user", "content": "Hello"}], delay=LATER)
    tab = open_tab(gateway, path="/jobs")
    link = tab.get_by_role("link", name="Cancel all that have not finished")
    link.focus()

    second = queue.enqueue([{"role": "user", "content": "Hello again"}], delay=LATER)

    expect(tab.locator("#jobs")).to_contain_text(second.id)
    expect(tab.locator("#jobs")).to_contain_text(first.id)
    expect(link).to_be_focused()


def test_a_page_whose_session_has_ended_leads_to_the_sign_in_form(open_tab: OpenTab, gateway: Gateway) -> None:
    # The gateway rejects the stream.
    tab = open_tab(gateway, expected="401")
    tab.context.clear_cookies()
    tab.evaluate(SHOW, True)
    tab.evaluate(SHOW, False)

    expect(tab.get_by_label("API key")).to_be_visible()
