"""Write the screenshots of the documentation: `make screenshots`."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.support.chromium import MISSING, chromium
from tests.support.demo_queue import Demo, demo_queue
from tests.support.tab import DESKTOP, PHONE, launched, opened_tab, sign_in

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
COLORS = 128
Shot = tuple[str, str, int, Literal["light", "dark"]]


def shots(demo: Demo) -> list[Shot]:
    """Return the name, the path, the width in pixels, and the theme of each screenshot."""
    return [
        ("overview", "/", DESKTOP, "light"),
        ("overview-dark", "/", DESKTOP, "dark"),
        ("overview-phone", "/", PHONE, "light"),
        ("batches", "/batches", DESKTOP, "light"),
        ("invalid-lines", demo.invalid_file, DESKTOP, "light"),
        ("batch", demo.open_batch, DESKTOP, "light"),
        ("failed-lines", demo.ended_batch, DESKTOP, "light"),
        ("jobs", "/jobs", DESKTOP, "light"),
        ("job-dark", demo.failed_job, DESKTOP, "dark"),
        ("account", demo.account, DESKTOP, "light"),
    ]


def take(browser: Browser, demo: Demo, shot: Shot) -> None:
    name, path, width, theme = shot
    base = f"http://127.0.0.1:{demo.gateway.port}"
    with opened_tab(browser, base, width, color_scheme=theme) as tab:
        sign_in(tab, demo.gateway.key, path)
        shown = tab.screenshot(full_page=width == PHONE)
    # A palette: the file has half the size.
    Image.open(BytesIO(shown)).convert("RGB").quantize(COLORS).save(FOLDER / f"{name}.png", optimize=True)


def main() -> int:
    executable = chromium()
    if executable is None:
        print(MISSING, file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with demo_queue() as demo, sync_playwright() as playwright, launched(playwright, executable) as browser:
        for shot in shots(demo):
            take(browser, demo, shot)
    print(f"screenshots: {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
