"""The page behind a reverse proxy: below a path, with a user whom the proxy has signed in."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from playwright.sync_api import Browser, expect

from tests.support.gateway_process import started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.tab import PHONE, opened_tab, width_of

ROOT = "/tools/queue"
USER = "ann@example.com"
VIEWS = ("Batches", "Jobs", "Accounts", "Workers", "Webhooks", "Overview")
TIMEOUT_S = 60
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "date", "server")


@contextmanager
def proxy() -> Iterator[ThreadingHTTPServer]:
    """Yield a proxy that forwards what is below ROOT, without the path, to `port`, and that names the user."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Forward)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(TIMEOUT_S)


class _Forward(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        if not self.path.startswith(f"{ROOT}/"):
            self.send_error(404)
            return
        length = int(self.headers.get("content-length") or 0)
        headers = {**dict(self.headers), "X-Forwarded-User": USER}
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.gateway_port, timeout=TIMEOUT_S)
        try:
            upstream.request(self.command, self.path.removeprefix(ROOT), self.rfile.read(length), headers)
            self._answer(upstream.getresponse())
        except OSError:
            # The browser has left, or the gateway has stopped.
            self.close_connection = True
        finally:
            upstream.close()

    do_POST = do_GET

    def _answer(self, response: http.client.HTTPResponse) -> None:
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("connection", "close")
        self.end_headers()
        # A stream is forwarded piece by piece.
        while piece := response.read1(65536):
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_every_view_works_below_a_path_for_a_user_of_the_proxy(
    browser: Browser, simulator_process: SimulatorProcess
) -> None:
    with proxy() as server:
        place = f"http://127.0.0.1:{server.server_port}{ROOT}"
        settings: dict[str, Any] = {
            "api_base": simulator_process.url,
            "page_url": place,
            "page_user_header": "X-Forwarded-User",
            "page_user_scope": "admin",
        }
        with started_gateway(workers=0, **settings) as gateway, opened_tab(browser, place, PHONE) as tab:
            server.gateway_port = gateway.port  # type: ignore[attr-defined]
            tab.goto("./")
            expect(tab.get_by_text(USER)).to_be_visible()
            expect(tab.get_by_role("button", name="Sign out")).to_have_count(0)
            for view in VIEWS:
                with tab.expect_request(lambda each: f"{ROOT}/live/" in each.url):
                    tab.get_by_role("navigation").get_by_role("link", name=view, exact=True).click()
                expect(tab.get_by_role("heading", level=1)).to_have_text(view)
                expect(tab.locator("#live-problem")).to_be_empty()
                assert width_of(tab) <= PHONE
            with gateway.client() as client:
                job = client.responses.create(model="mira", input="Hello", background=True)
            expect(tab.locator("#numbers")).to_contain_text("open jobs1")
            tab.goto("./jobs")
            tab.get_by_role("searchbox").fill(job.id)
            tab.get_by_role("button", name="Find").click()
            tab.on("dialog", lambda dialog: dialog.accept())
            tab.get_by_role("button", name="Cancel").click()
            expect(tab.locator("#job")).to_contain_text("Cancelled")
