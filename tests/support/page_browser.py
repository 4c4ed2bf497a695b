"""A client of the web page that does what a browser does without scripts: cookies, redirects, and forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import requests

from tests.support.gateway_process import Gateway

# The first report of a gateway loads a large library.
TIMEOUT_S = 90
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


class Browser:
    """A browser on the gateway at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.move_to(port)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["accept"] = HTML

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def move_to(self, port: int) -> None:
        """Continue on the gateway at another port, with the same cookies."""
        self._base = f"http://127.0.0.1:{port}"

    @property
    def csrf(self) -> str:
        """The CSRF token of the user."""
        found = re.search(r'data-csrf="([^"]+)"', self.get("/").text)
        assert found is not None
        return found[1]

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self._base + path, timeout=TIMEOUT_S, **options)

    def post(self, path: str, data: Mapping[str, str] | None = None, **options: Any) -> requests.Response:
        return self.session.post(self._base + path, data, timeout=TIMEOUT_S, **options)

    def act(self, path: str, data: Mapping[str, str] | None = None, **options: Any) -> requests.Response:
        """Send a form with the token of its user."""
        return self.post(path, {"csrf": self.csrf, **(data or {})}, **options)

    def events(self, path: str) -> Iterator[dict[str, str]]:
        """Yield the HTML of the elements that change, by their ids, as the page's script gets it."""
        with self.get(path, stream=True) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
            for line in answer.iter_lines(chunk_size=1):
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))["html"]

    def sign_in(self, key: str, form: requests.Response | None = None) -> requests.Response:
        """Fill in the form, and return the page that follows."""
        found = re.search(r'name="next" value="([^"]*)"', form.text) if form else None
        answer = self.post("/sign-in", {"key": key, "next": found[1] if found else "/"})
        assert answer.status_code == 200, answer.text
        return answer


@contextmanager
def signed_in(gateway: Gateway, key: str = "") -> Iterator[Browser]:
    """A browser whose user has signed in, by default with the first key."""
    with Browser(gateway.port) as browser:
        browser.sign_in(key or gateway.key)
        yield browser
