"""Every view, in both themes, on a telephone and on a desktop: axe finds nothing serious, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenTab
from tests.support.demo_queue import Demo, demo_queue
from tests.support.tab import DESKTOP, PHONE, width_of

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SERIOUS = ("serious", "critical")
OPTIONS: dict[str, Any] = {"resultTypes": ["violations"]}
# A chart is an image with a name. The report's charts have thousands of shapes, and axe checks each one for minutes.
WITHOUT_SHAPES: dict[str, Any] = {"exclude": [["svg *"]]}


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with demo_queue() as found:
        yield found


def findings(tab: Page) -> list[str]:
    """Return what axe finds in the view."""
    found = Axe().run(tab, WITHOUT_SHAPES, OPTIONS).response["violations"]
    return [
        f"{each['impact']}: {each['help']}: {node['html'][:200]}: {[why['message'] for why in node['any']][:1]}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


def problems_of(tab: Page, path: str, width: int) -> list[str]:
    """Return the problems of a view in both themes."""
    tab.goto(path)
    expect(tab.locator("h1").first).to_be_visible()
    problems = [f"{width} px: the content is {width_of(tab)} px wide"] if width_of(tab) > width else []
    for theme in THEMES:
        tab.emulate_media(color_scheme=theme)
        problems += [f"{width} px, {theme}: {finding}" for finding in findings(tab)]
    return [f"{path}: {problem}" for problem in problems]


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_every_view_is_accessible_and_fits(open_tab: OpenTab, demo: Demo, width: int) -> None:
    tab = open_tab(demo.gateway, width)
    found = [problem for path in demo.views for problem in problems_of(tab, path, width)]
    tab.goto("/")
    tab.get_by_role("button", name="Sign out").click()
    found += problems_of(tab, "/sign-in", width)

    assert not found, "\n".join(found)


def test_every_view_shows_its_place_and_has_a_title_of_its_own(open_tab: OpenTab, demo: Demo) -> None:
    tab = open_tab(demo.gateway)
    titles = []
    for path in demo.views:
        tab.goto(path)
        titles.append(tab.title())
        if not path.endswith("/report"):
            expect(tab.locator("nav a[aria-current=page]")).to_have_count(1)

    assert len(set(titles)) > len(titles) // 2
    assert all(titles)
