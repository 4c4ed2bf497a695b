"""A tab of a real browser on the gateway. Whatever goes wrong in it is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

# Much longer than any step takes on a busy machine.
TIMEOUT_MS = 60_000
HEIGHT = 900
PHONE, DESKTOP = 390, 1280

expect.set_options(timeout=TIMEOUT_MS)


@contextmanager
def launched(playwright: Playwright, executable: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=executable, timeout=TIMEOUT_MS)
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def opened_tab(
    browser: Browser, base: str, width: int = DESKTOP, *, expected: str = "nothing", **options: Any
) -> Iterator[Page]:
    """Yield a tab of a new window. An error of a script, a violation of the policy, or another host fails the test.

    `base` is the URL of the page, without a slash at the end. `options` are those of Playwright's `new_context`.
    A problem whose text contains `expected` is none.
    """
    context = browser.new_context(base_url=f"{base}/", viewport={"width": width, "height": HEIGHT}, **options)
    context.set_default_timeout(TIMEOUT_MS)
    problems = _recorded(context, base)
    try:
        yield context.new_page()
    finally:
        context.close()
    found = [problem for problem in problems if expected not in problem]
    assert not found, "\n".join(found)


def _recorded(context: BrowserContext, base: str) -> list[str]:
    """Return the list to which the problems of all tabs of this window are added."""
    problems: list[str] = []
    ours = (f"{base}/", "data:", "blob:", "about:")
    context.on("weberror", lambda error: problems.append(f"error of a script: {error.error}"))
    context.on(
        "console", lambda line: problems.append(f"console: {line.text}") if line.type in ("error", "warning") else None
    )
    context.on(
        "request", lambda each: problems.append(f"other host: {each.url}") if not each.url.startswith(ours) else None
    )
    return problems


def sign_in(tab: Page, key: str, path: str = "/") -> None:
    """Sign in by the form, and come back to the view."""
    # Relative, so that the base may have a path.
    tab.goto(f".{path}")
    tab.get_by_label("API key").fill(key)
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("navigation")).to_be_visible()


def width_of(tab: Page) -> int:
    """Return the width of the content: if it is larger than the window, the page scrolls sideways."""
    return int(tab.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"))


def drop(tab: Page, name: str, content: str) -> None:
    """Drop a file on the form, as the mouse does."""
    transfer = tab.evaluate_handle(
        """([name, content]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([content], name, { type: "application/jsonl" }));
            return transfer;
        }""",
        [name, content],
    )
    for event in ("dragenter", "dragover", "drop"):
        tab.dispatch_event("#drop", event, {"dataTransfer": transfer})
