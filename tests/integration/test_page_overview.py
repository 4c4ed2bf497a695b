"""The overview, accounts, and workers of the web page, on a real gateway with a worker: what they show, live."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import openai
import pytest

from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import Browser, signed_in
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

# The simulator answers with a 402 after so many calls, and is slow enough to be watched.
CALLS = 4


@pytest.fixture(scope="module")
def poor_gateway() -> Iterator[Gateway]:
    """A gateway whose account's balance is used up after some calls."""
    with (
        SimulatorProcess.start("--balance-calls", str(CALLS)) as simulator,
        started_gateway(api_base=simulator.url) as running,
    ):
        yield running


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def follow(browser: Browser, path: str, element: str, words: str, within_s: float = 60) -> str:
    """Return the text of an element as soon as a live update of it has these words."""
    until_s = time.monotonic() + within_s
    shown = ""
    for changed in browser.events(path):
        shown = text_of(changed[element]) if element in changed else shown
        if words in shown:
            return shown
        assert time.monotonic() < until_s, shown
    raise AssertionError(f"the stream has ended: {shown}")


def create(client: openai.OpenAI, count: int) -> None:
    for number in range(count):
        client.responses.create(model="mira", input=f"question {number}", background=True)


def test_an_empty_balance_is_the_reason_why_nothing_moves(poor_gateway: Gateway) -> None:
    with poor_gateway.client() as client, signed_in(poor_gateway) as browser:
        create(client, CALLS + 1)

        waits = follow(browser, "/live/overview", "waits", "rejects every call")
        numbers = text_of(browser.get("/").text)

        assert "balance" in waits
        assert "Check the account now" in waits
        assert f"answered {CALLS} " in numbers
        assert re.search(r"insufficient_balance|balance", text_of(browser.get("/").text))
        account = re.search(r"/accounts/([\w-]+)", browser.get("/accounts").text)
        assert account is not None
        shown = text_of(browser.get(account[0]).text)
        assert "account rejected" in shown
        done = browser.act(f"{account[0]}/check")
        assert done.status_code == 200
        assert 'class="notice"' in done.text
        # The notice is shown once.
        assert 'class="notice"' not in browser.get(account[0]).text


def test_an_action_is_logged_with_its_user(poor_gateway: Gateway) -> None:
    with signed_in(poor_gateway) as browser:
        account = re.search(r"/accounts/([\w-]+)", browser.get("/accounts").text)
        assert account is not None
        assert browser.act(f"{account[0]}/forget").status_code == 200

    (entry,) = [
        line for line in poor_gateway.log.read_text().splitlines() if "page_action" in line and "forget" in line
    ]
    assert "default" in entry
    assert poor_gateway.key not in poor_gateway.log.read_text()


def test_a_key_that_may_only_read_sees_no_action_and_can_take_none(poor_gateway: Gateway) -> None:
    key = poor_gateway.create_key("board", "--scope", "read")
    with signed_in(poor_gateway, key) as browser:
        account = re.search(r"/accounts/([\w-]+)", browser.get("/accounts").text)
        assert account is not None
        page = browser.get(account[0])
        forms = re.findall(r'<form[^>]*method="post" action="([^"]+)"', page.text)

        assert set(forms) == {"/sign-out"}
        assert browser.act(f"{account[0]}/check").status_code == 403
        answer = browser.act(f"{account[0]}/forget", headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")


def test_an_unknown_account_is_a_page_with_a_404(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        assert browser.get("/accounts/nobody").status_code == 404
        assert browser.act("/accounts/nobody/check").status_code == 404


def test_live_workers_and_what_they_do_are_shown(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        wait_until("its workers are listed", lambda: text_of(browser.get("/workers").text).count("idle") == 2)
        assert "2 workers" in text_of(browser.get("/accounts").text)


def test_a_stream_sends_everything_first_and_then_what_has_changed(gateway: Gateway) -> None:
    with gateway.client() as client, signed_in(gateway) as browser:
        events = browser.events("/live/overview")
        first = next(events)
        create(client, 1)
        changed = next(events)

        assert {"waits", "numbers", "activity", "accounts", "workers", "batches"} <= first.keys()
        assert "numbers" in changed
        assert changed.keys() < first.keys()


def test_two_pages_share_one_reader_and_each_gets_everything(gateway: Gateway) -> None:
    with signed_in(gateway) as one, signed_in(gateway) as two:
        streams = [browser.events("/live/workers") for browser in (one, two)]

        assert [next(stream).keys() for stream in streams] == [{"workers", "live-problem"}] * 2


def test_a_fragment_has_no_token_of_a_user(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        token = browser.csrf
        for path in ("/live/overview", "/live/accounts", "/live/workers"):
            assert token not in "".join(next(browser.events(path)).values())


def test_without_a_session_there_is_no_stream(gateway: Gateway) -> None:
    with Browser(gateway.port) as browser:
        assert browser.get("/live/overview").status_code == 401


def test_an_open_stream_does_not_delay_the_stop(simulator_process: SimulatorProcess) -> None:
    # Without the end of its streams, the gateway would wait for its grace period.
    with started_gateway(workers=0, api_base=simulator_process.url, grace=3600) as other, signed_in(other) as browser:
        events = browser.events("/live/overview")
        next(events)

        assert other.stop() == 0
        assert list(events) == []
