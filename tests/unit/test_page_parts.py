"""Parts of the web page: errors as pages, sign-in tries, redirects, cookies, colors, and the files of the page."""

from __future__ import annotations

import re
from importlib.resources import files
from types import SimpleNamespace

import anyio
import pytest
from mira_producer.gateway import app
from mira_producer.page import sign_in, static_files
from mira_producer.page.overview.waits import Wait
from mira_producer.page.rendering import fragment
from mira_producer.page.session import Notice, Sessions
from mira_producer.page.views import is_local
from mira_producer.page.visitor import Audience
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from mira_queue.contract.errors import QueueUnavailable

SESSIONS = Sessions(SecretStr("0" * 64), is_secure=True)
TOKENS = (files("mira_producer.page") / "static" / "tokens.css").read_text(encoding="utf-8")
MIN_CONTRAST = 4.5
# The message, the advice, the action, and its label.
TEXTS = ("<b>", "<b>", "/accounts/x/check", "<b>")


def request(path: str = "/", accept: str = "text/html", root: str = "", cookie: str = "") -> Request:
    headers = [(b"accept", accept.encode()), (b"cookie", cookie.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "root_path": root, "headers": headers, "scheme": "http"}
    return Request({**scope, "query_string": b"", "server": ("localhost", 80), "state": {"request_id": "req_1"}})


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/", "text/html", "text/html"),
        ("/v1/jobs", "text/html", "application/json"),
        ("/", "*/*", "application/json"),
    ],
)
def test_an_unavailable_queue_is_a_page_for_a_browser_and_json_for_a_client(path: str, accept: str, kind: str) -> None:
    async def respond() -> Response:
        return await app._respond(request(path, accept), QueueUnavailable("no connection"))

    answer = anyio.run(respond)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.headers["content-type"].startswith(kind)
    assert b"no connection" in answer.body


def test_an_address_may_try_ten_keys_per_minute() -> None:
    now_s = 1000.0
    tries = sign_in.Tries(lambda: now_s)
    for _ in range(sign_in.MAX_TRIES):
        assert tries.wait_s("a") == 0
        tries.add("a")

    assert (tries.wait_s("a"), tries.wait_s("b")) == (61, 0)
    now_s += 60
    assert tries.wait_s("a") == 0


def test_the_addresses_of_wrong_keys_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "MAX_ADDRESSES", 3)
    tries = sign_in.Tries()
    for number in range(10):
        tries.add(str(number))

    assert len(tries._times) == 3


@pytest.mark.parametrize("place", ["/", "/jobs?code=timeout", "/batches/batch_1#state"])
def test_a_path_of_the_page_is_local(place: str) -> None:
    assert is_local(place)


@pytest.mark.parametrize("place", ["", "jobs", "//evil", "/\\evil", "http://evil", "javascript:alert(1)", "/\r\nx: y"])
def test_anything_else_is_not(place: str) -> None:
    assert not is_local(place)


def test_a_cookie_of_one_kind_is_not_read_as_another() -> None:
    response = Response()
    SESSIONS.notify(request(), response, Notice("abc"))
    name, value = response.headers["set-cookie"].partition(";")[0].split("=", 1)

    assert SESSIONS.notice(request(cookie=f"{name}={value}")) == Notice("abc")
    assert SESSIONS.digest(request(cookie=f"{name.replace('notice', 'session')}={value}")) == ""


def test_a_cookie_of_another_queue_is_no_session() -> None:
    response = Response()
    Sessions(SecretStr("1" * 64), is_secure=True).start(request(), response, "digest")
    own = Response()
    SESSIONS.start(request(), own, "digest")
    value = response.headers["set-cookie"].partition(";")[0].split("=", 1)[1]
    name = own.headers["set-cookie"].partition("=")[0]

    assert SESSIONS.digest(request(cookie=own.headers["set-cookie"].partition(";")[0])) == "digest"
    assert SESSIONS.digest(request(cookie=f"{name}={value}")) == ""


def test_a_fragment_escapes_text_and_has_the_subpath_in_its_links() -> None:
    page = fragment(request("/queue/", root="/queue"), Audience("", False), "parts/worker_rows.html", workers=[])
    assert "No worker" in page

    from_text = fragment(
        request("/queue/", root="/queue"),
        Audience("", True),
        "parts/overview_waits.html",
        shown=SimpleNamespace(waits=[Wait("x", "/accounts/x", "<b>x</b>", "bad", 0.0, "call", *TEXTS)]),
    )
    assert "&lt;b&gt;" in from_text
    assert "<b>" not in from_text
    assert 'href="/queue/accounts/x"' in from_text
    assert 'action="/queue/accounts/x/check"' in from_text


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["page", "card", "raised"])
@pytest.mark.parametrize("text", ["ink", "soft", "link", "good", "bad", "warn"])
def test_text_can_be_read_on_every_background_of_both_themes(text: str, ground: str, theme: int) -> None:
    assert _contrast(_color(text, theme), _color(ground, theme)) >= MIN_CONTRAST


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_main_button_can_be_read(theme: int) -> None:
    assert _contrast(_color("on-accent", theme), _color("accent", theme)) >= MIN_CONTRAST


def test_no_file_of_the_page_loads_anything_from_another_host_or_has_a_style_of_its_own() -> None:
    folder = files("mira_producer.page")
    templates = [each for place in ("templates", "templates/parts") for each in (folder / place).iterdir()]
    for each in templates:
        if each.name.endswith(".html"):
            text = each.read_text(encoding="utf-8")
            assert not re.search(r"(src|href|action)=[\"']?(https?:)?//|\sstyle=|<style|\son[a-z]+=", text), each.name
    for name, content in static_files.contents().items():
        if not name.endswith(".svg"):
            assert not re.search(rb"https?://|url\(|@import", content), name


def _color(name: str, theme: int) -> tuple[float, ...]:
    found = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", TOKENS)
    assert found is not None, name
    text = found[theme + 1]
    return tuple(int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the ratio of WCAG 2.2."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: tuple[float, ...]) -> float:
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
