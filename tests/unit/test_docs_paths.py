"""The documentation names files and modules that exist, and its links have targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The changelog is history: it may name what no longer exists.
PAGES = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.name != "CHANGELOG.md"]
FOLDERS = ("mira_queue", "producer", "worker", "tests", "bench", "docs", "examples", ".ci", ".github")
PACKAGES = {"mira_queue": ".", "mira_producer": "producer", "mira_worker": "worker", "tests": ".", "bench": "."}
SUFFIXES = (".py", ".lua", ".md", ".svg", ".sh")

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"-m ([\w.]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    missing = [path for path in _paths(page.read_text(encoding="utf-8")) if not _exists(path)]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_a_page_runs_exists(page: Path) -> None:
    names = [name for name in MODULE.findall(page.read_text(encoding="utf-8")) if name.split(".")[0] in PACKAGES]

    assert [name for name in names if not _is_module(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_has_its_target(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]

    assert [link for link in links if not _has_target(page, link)] == []


def test_a_name_without_a_file_is_found() -> None:
    assert list(_paths("`worker/gone.py` and `mira-queue run`, `gone.py`, `out/x.jsonl`")) == [
        "worker/gone.py",
        "gone.py",
    ]
    assert not _exists("worker/gone.py")
    assert not _exists("gone.py")
    assert not _is_module("bench.gone")


def _paths(text: str) -> Iterator[str]:
    """Yield the words in backticks that name a file or a folder of this repository."""
    for code in CODE.findall(text):
        for word in code.split():
            path = word.rstrip(",;:").partition("::")[0]
            if path.endswith(SUFFIXES) or ("/" in path and path.split("/")[0] in FOLDERS):
                yield path


def _exists(path: str) -> bool:
    """Return True for a path from the root of the repository, or for the end of a path."""
    if any(ROOT.glob(path)):
        return True
    return path.split("/")[0] not in FOLDERS and any(any((ROOT / folder).rglob(path)) for folder in FOLDERS)


def _is_module(name: str) -> bool:
    path = ROOT / PACKAGES[name.split(".")[0]] / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def _has_target(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = page.parent / target if target else page
    if not path.exists():
        return False
    return not anchor or anchor in {_anchor(line) for line in path.read_text(encoding="utf-8").splitlines()}


def _anchor(line: str) -> str:
    """Return the anchor that a heading gets on the usual hosts; empty for another line."""
    if not line.startswith("#"):
        return ""
    return re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
