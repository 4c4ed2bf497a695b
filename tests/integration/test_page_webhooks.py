"""Webhooks on the web page: endpoints, recent deliveries, and a dead delivery that is sent again."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mira_queue.contract.webhook import new_signing_secret
from tests.integration.test_page_overview import follow, text_of
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import signed_in
from tests.support.raw_server import RawServer, response
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import LOCAL, receiver

SECRET = new_signing_secret().get_secret_value()
TYPES: Any = ["response.completed"]


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    settings: dict[str, Any] = {"webhook_secret": SECRET, "webhook_hosts": ",".join(LOCAL), "webhook_timeout": "2"}
    with started_gateway(api_base=simulator_process.url, **settings) as running:
        yield running


@pytest.fixture
def server() -> Iterator[RawServer]:
    with receiver() as server:
        yield server


def create_endpoint_and_response(gateway: Gateway, key: str, server: RawServer, name: str) -> None:
    with gateway.client(key) as client:
        client.webhooks.create(name=name, url=server.url, event_types=TYPES)
        client.responses.create(model="mira", input="a question", background=True)


def test_a_delivery_is_shown_as_soon_as_it_is_made(gateway: Gateway, server: RawServer) -> None:
    create_endpoint_and_response(gateway, gateway.create_key("app1"), server, "Receiver <1>")
    with signed_in(gateway) as browser:
        shown = follow(browser, "/live/webhooks", "deliveries", "delivered")

        assert "response.completed" in shown
        page = browser.get("/webhooks").text
        assert "Receiver &lt;1&gt;" in page
        assert SECRET not in page
        assert "whsec_" not in page


def test_a_dead_delivery_is_sent_again_by_a_click(gateway: Gateway) -> None:
    is_back = threading.Event()
    # 410: the receiver wants nothing more.
    with receiver(lambda _: response(200 if is_back.is_set() else 410)) as server, signed_in(gateway) as browser:
        create_endpoint_and_response(gateway, gateway.create_key("app2"), server, "Gone")
        follow(browser, "/live/webhooks?state=dead", "deliveries", "Send again")
        page = browser.get("/webhooks?state=dead").text
        (path,) = re.findall(r'action="(/webhooks/deliveries/[^"]+)"', page)
        assert "HTTP 410" in text_of(page)
        with gateway.client(gateway.create_key("app2")) as client:
            (endpoint,) = client.webhooks.list()
            # Its owner has fixed it: it is enabled again.
            client.webhooks.update(endpoint.id, name="Back")
        is_back.set()

        assert "sent again" in text_of(browser.act(path).text)
        wait_until("it arrives", lambda: len(server.requests) == 2)
        # It is not dead any more.
        assert browser.act(path).status_code == 404


def test_a_key_sees_the_webhooks_of_its_project_and_resends_nothing(gateway: Gateway, server: RawServer) -> None:
    create_endpoint_and_response(gateway, gateway.create_key("mine"), server, "My receiver")
    create_endpoint_and_response(gateway, gateway.create_key("yours"), server, "Your receiver")
    with signed_in(gateway, gateway.create_key("mine", "--scope", "read")) as browser:
        shown = follow(browser, "/live/webhooks", "deliveries", "delivered")
        page = browser.get("/webhooks").text

        assert "My receiver" in page
        assert "Your receiver" not in page + shown
        assert browser.act("/webhooks/deliveries/whd_0/resend").status_code == 403


def test_a_wrong_filter_is_a_page_that_says_so(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        answer = browser.get("/webhooks?state=lost")

        assert answer.status_code == 400
        assert "pending" in answer.text
        assert browser.get("/webhooks?after=whd_0").status_code == 400
