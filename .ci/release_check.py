#!/usr/bin/env python3
"""Check a release: the version, the newest heading of CHANGELOG.md, and the tag of this commit must agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    newest = next((heading for heading in headings if heading != "Unreleased"), "no released version")
    tags = _git("tag", "--points-at", "HEAD").split()
    problems = []
    if newest != version:
        problems.append(f"CHANGELOG.md: the newest heading is [{newest}], but pyproject.toml has version {version}")
    if f"v{version}" not in tags:
        problems.append(f"git: this commit has no tag v{version} (tags: {', '.join(tags) or 'none'})")
    if changed := _git("status", "--porcelain"):
        problems.append(f"git: the working tree has changes:\n{changed.rstrip()}")
    for problem in problems:
        print(f"release: {problem}", file=sys.stderr)
    return int(bool(problems))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
