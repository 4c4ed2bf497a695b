"""Find a Python that has taskiq: this one if taskiq is installed, else one in a temporary environment."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NEEDED = ("taskiq>=0.11,<1", "taskiq-redis>=1,<2", "aiohttp>=3.11,<4")


@contextmanager
def peers_python() -> Iterator[Path | None]:
    """Yield the Python, or None if taskiq cannot be installed."""
    if importlib.util.find_spec("taskiq_redis") is not None:
        yield Path(sys.executable)
        return
    with TemporaryDirectory(prefix="mq-peers-") as folder:
        print("installing taskiq into a temporary environment ...", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *NEEDED], check=False
        )
        yield python if done.returncode == 0 else None
