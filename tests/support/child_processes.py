"""The child processes of a process, as the kernel lists them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children(parent: int, module: str) -> list[int]:
    """Return the PIDs of the children that run this Python module. A child that has exited is none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            # The name, in parentheses, may contain anything.
            state, its_parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            runs = module.encode() in (process / "cmdline").read_bytes().split(b"\0")
            if int(its_parent) == parent and state != "Z" and runs:
                found.append(int(process.name))
    return found
