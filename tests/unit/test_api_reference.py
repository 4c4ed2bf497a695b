"""The page that the README links to lists every public name."""

from __future__ import annotations

import re
from pathlib import Path

import mira_queue

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_lists_the_public_names_and_no_others() -> None:
    table = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}

    assert listed == set(mira_queue.__all__)
