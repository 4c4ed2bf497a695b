"""Durable queue for chat-completion jobs: everything that a program calls, names, or catches.

    from mira_queue import JobError, MiraQueue, ResultTimeout

    queue = MiraQueue()
    job = queue.enqueue(messages=[{"role": "user", "content": "Why is the sky blue?"}])
    print(job.result(timeout=60).text)

Each name is loaded when it is first used, so `import mira_queue` is cheap. Names that are not listed here may change
in any version.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@cache
def _modules() -> dict[str, str]:
    """Return the module of each public name: the imports of the stub, which type checkers read."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    """Return a public name, loaded on its first use, or `__version__`."""
    if name == "__all__":
        value: Any = list(_modules())
    elif name == "__version__":
        value = import_module("importlib.metadata").version("mira-queue")
    elif not name.startswith("_") and name in _modules():
        value = getattr(import_module(_modules()[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules(), "__all__", "__version__"})
