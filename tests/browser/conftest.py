"""Fixtures of the browser: Chromium, and windows in which nothing may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.chromium import MISSING, chromium
from tests.support.gateway_process import Gateway
from tests.support.tab import launched, opened_tab, sign_in

OpenTab = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for all tests of a module. Not of the session: Playwright's event loop must not outlive the module."""
    path = chromium()
    if path is None:
        pytest.skip(MISSING)
    with sync_playwright() as playwright, launched(playwright, path) as found:
        yield found


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[OpenTab]:
    """Opens tabs on a gateway, signed in: `open_tab(gateway, 390, "/jobs")`. All are watched until the test ends."""
    with ExitStack() as stack:

        def opened(gateway: Gateway, width: int = 1280, path: str = "/", **options: Any) -> Page:
            tab = stack.enter_context(opened_tab(browser, f"http://127.0.0.1:{gateway.port}", width, **options))
            sign_in(tab, gateway.key, path)
            return tab

        yield opened
