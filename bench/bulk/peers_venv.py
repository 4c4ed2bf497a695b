"""A Python that has taskiq: ours when it is installed there, else a throwaway environment: we do not depend on it."""

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
    """None where it cannot be installed."""
    if importlib.util.find_spec("taskiq_redis") is not None:
        yield Path(sys.executable)
        return
    with TemporaryDirectory(prefix="mq-peers-") as folder:
        print("installing taskiq into an environment of its own ...", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *NEEDED], check=False
        )
        yield python if done.returncode == 0 else None
