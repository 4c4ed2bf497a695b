"""The web page as a whole: sign-in, permissions, tokens, headers, and errors. Over a socket, as a browser sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import Gateway, started_gateway
from tests.support.page_browser import Browser, signed_in
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

VIEWS = ["/", "/batches", "/jobs", "/accounts", "/workers", "/webhooks"]
pytestmark = pytest.mark.usefixtures("gateway")


@pytest.fixture
def browser(gateway: Gateway) -> Iterator[Browser]:
    with Browser(gateway.port) as found:
        yield found


def test_a_view_without_a_session_leads_to_the_form_and_back_to_the_view(gateway: Gateway, browser: Browser) -> None:
    form = browser.get("/?page=2")

    assert form.url.endswith("/sign-in?next=%2F%3Fpage%3D2")
    assert browser.sign_in(gateway.key, form).url.endswith("/?page=2")


@pytest.mark.parametrize("place", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\nx"])
def test_the_form_leads_to_no_other_host(gateway: Gateway, browser: Browser, place: str) -> None:
    answer = browser.post("/sign-in", {"key": gateway.key, "next": place}, allow_redirects=False)

    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_site_cannot_sign_a_user_in(gateway: Gateway, browser: Browser, origin: str) -> None:
    answer = browser.post("/sign-in", {"key": gateway.key}, headers={"origin": origin})

    assert answer.status_code == 403
    assert not browser.session.cookies
    own = {"origin": f"http://127.0.0.1:{gateway.port}"}
    assert browser.post("/sign-in", {"key": gateway.key}, headers=own).status_code == 200


def test_a_stream_with_a_wrong_filter_is_an_error_of_the_request(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        answers = [browser.get(f"/live/{path}") for path in ("jobs?since=never", "webhooks?state=lost")]

    assert [answer.status_code for answer in answers] == [400, 400]


def test_every_wrong_key_gets_the_same_page(gateway: Gateway, browser: Browser) -> None:
    revoked = gateway.create_key("gone")
    assert gateway.cli("keys", "revoke", "gone").code == 0
    answers = [browser.post("/sign-in", {"key": key}) for key in ("", "mq-" + "0" * 48, "x" * 5000, revoked)]

    assert {answer.status_code for answer in answers} == {401}
    assert len({re.sub(r'data-now="\d+"', "", answer.text) for answer in answers}) == 1
    assert "mq-0000" not in answers[1].text
    assert not browser.session.cookies


def test_after_ten_wrong_keys_no_key_is_checked(simulator_process: SimulatorProcess) -> None:
    with started_gateway(workers=0, api_base=simulator_process.url) as other, Browser(other.port) as browser:
        statuses = [browser.post("/sign-in", {"key": f"mq-{number}"}).status_code for number in range(11)]

        assert statuses == [401] * 10 + [429]
        assert browser.post("/sign-in", {"key": other.key}).status_code == 429


def test_the_session_is_in_a_cookie_that_scripts_and_other_sites_cannot_use(gateway: Gateway, browser: Browser) -> None:
    answer = browser.post("/sign-in", {"key": gateway.key}, allow_redirects=False)
    cookie = answer.headers["set-cookie"]

    assert re.match(r"mira_session_[0-9a-f]{8}=", cookie)
    assert {"httponly", "path=/", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
    assert gateway.key not in cookie


@pytest.mark.parametrize("change", [lambda value: value[:-2], lambda value: "x" + value, lambda _: "x.y.z"])
def test_a_changed_cookie_is_no_session(gateway: Gateway, browser: Browser, change: Any) -> None:
    browser.sign_in(gateway.key)
    ((name, value),) = browser.session.cookies.items()
    browser.session.cookies.clear()
    browser.session.cookies.set(name, change(value))

    assert "/sign-in" in browser.get("/").url


def test_a_revoked_key_ends_its_sessions(gateway: Gateway, browser: Browser) -> None:
    browser.sign_in(gateway.create_key("leaving"))
    assert "/sign-in" not in browser.get("/").url
    assert gateway.cli("keys", "revoke", "leaving").code == 0

    wait_until("the session has ended", lambda: "/sign-in" in browser.get("/").url)


def test_sign_out_ends_the_session(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        assert "/sign-in" in browser.act("/sign-out").url
        assert "/sign-in" in browser.get("/").url


def test_an_action_without_the_token_of_its_user_is_rejected(gateway: Gateway) -> None:
    with signed_in(gateway) as browser, signed_in(gateway, gateway.create_key("else")) as other:
        for data, headers in (
            ({}, {}),
            ({"csrf": ""}, {}),
            ({"csrf": other.csrf}, {}),
            ({"csrf": "é"}, {}),
            ({"csrf": browser.csrf}, {"sec-fetch-site": "cross-site"}),
            ({"csrf": browser.csrf}, {"origin": "http://evil.example"}),
            ({"csrf": browser.csrf}, {"origin": "null"}),
        ):
            answer = browser.post("/sign-out", data, headers=headers)
            assert answer.status_code == 403, data
            assert answer.headers["content-type"].startswith("text/html")
        assert "/sign-in" not in browser.get("/").url
        assert "/sign-in" in browser.post("/sign-out", headers={"x-csrf-token": browser.csrf}).url


@pytest.mark.parametrize("path", [*VIEWS, "/sign-in", "/nowhere"])
def test_every_page_forbids_scripts_styles_and_frames_of_other_hosts(gateway: Gateway, path: str) -> None:
    with signed_in(gateway) as browser:
        answer = browser.get(path, allow_redirects=False)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))

    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<style|style=|<script(?! (type=\"module\" )?src=)|\son[a-z]+=", answer.text)


def test_styles_and_scripts_are_stored_for_a_year_under_a_name_that_changes_with_them(gateway: Gateway) -> None:
    with signed_in(gateway) as browser:
        files = re.findall(r'(?:href|src)="(/static/[^"]+)"', browser.get("/").text)
        answers = [browser.get(path) for path in files]
        earlier = browser.get(re.sub(r"/static/[^/]+/", "/static/0123/", files[0]))

    assert len(files) >= 4
    assert {answer.status_code for answer in answers} == {200}
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    assert earlier.headers["cache-control"] == "no-cache"
    assert browser.get("/static/0123/..%2fpage.css").status_code == 404


def test_an_unknown_path_is_a_page_for_a_browser_and_json_for_a_client(gateway: Gateway, browser: Browser) -> None:
    page, api, plain = (
        browser.get("/nowhere"),
        browser.get("/v1/nowhere"),
        browser.get("/nowhere", headers={"accept": "*/*"}),
    )

    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    for answer in (api, plain):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_text_from_a_user_is_never_markup(gateway: Gateway, browser: Browser) -> None:
    answer = browser.get("/<script>alert(1)</script>")

    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


def test_behind_a_proxy_the_page_works_below_its_path(simulator_process: SimulatorProcess) -> None:
    settings: dict[str, Any] = {"api_base": simulator_process.url, "page_url": "https://mira.example.com/queue"}
    with started_gateway(workers=0, **settings) as other, Browser(other.port) as browser:
        host = {"host": "mira.example.com"}
        # One proxy removes the path, another one does not.
        for path in ("/queue/sign-in", "/sign-in"):
            form = browser.get(path, headers=host)
            assert form.status_code == 200
            assert set(re.findall(r'(?:href|src|action)="(/[a-z]*)', form.text)) == {"/queue"}
        answer = browser.post("/queue/sign-in", {"key": other.key}, headers=host, allow_redirects=False)
        assert answer.headers["location"] == "/queue/"
        assert "path=/queue" in answer.headers["set-cookie"].lower()
        assert "secure" in answer.headers["set-cookie"].lower()
        cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
        for path in ("/queue", "/queue/", "/"):
            assert "<nav" in browser.get(path, headers={**host, **cookie}, allow_redirects=False).text
        assert browser.get("/queuetip", headers={**host, **cookie}).status_code == 404


def test_a_proxy_names_the_user_only_from_its_address(simulator_process: SimulatorProcess) -> None:
    settings: dict[str, Any] = {
        "api_base": simulator_process.url,
        "page_user_header": "X-Forwarded-User",
        "page_user_scope": "admin",
    }
    user = {"x-forwarded-user": "ann@example.com <b>"}
    with started_gateway(workers=0, **settings) as other, Browser(other.port) as browser:
        page = browser.get("/", headers=user)
        assert "ann@example.com &lt;b&gt;" in page.text
        assert "Sign out" not in page.text
        assert "/sign-in" in browser.get("/").url
    with started_gateway(workers=0, page_proxies="10.1.0.0/16", **settings) as other, Browser(other.port) as browser:
        assert "/sign-in" in browser.get("/", headers=user).url
    with started_gateway(workers=0, api_base=simulator_process.url) as other, Browser(other.port) as browser:
        assert "/sign-in" in browser.get("/", headers=user).url


def test_a_second_gateway_of_the_queue_accepts_the_session(gateway: Gateway, tmp_path: Path) -> None:
    second = gateway.cli.start("serve", "--port", "0", "--workers", "0", log=tmp_path / "log")
    with signed_in(gateway) as browser, second as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rstrip().removesuffix("/v1").rpartition(":")[2])
        browser.move_to(port)
        answer = browser.get("/")
        process.terminate()

        assert answer.status_code == 200
        assert "<nav" in answer.text
