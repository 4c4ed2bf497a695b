"""Run `mira-queue run` as a process, and measure the time and the peak memory of all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from bench.bulk import machine
from bench.bulk.stage import KEY

POLL_EVERY_S = 0.1
COMMAND = (sys.executable, "-m", "mira_producer.cli")


@dataclass(slots=True)
class Ran:
    """Duration of a run in seconds; processor time and peak memory by part: run, worker, server."""

    took_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)


def start_run(
    path: Path, api_base: str, *arguments: str, redis_url: str | None = None, **variables: str
) -> subprocess.Popen[bytes]:
    """Start a run on its own server or on `redis_url`, with `variables` in its environment.

    Its output goes to a log file next to the input.
    """
    env = {
        **os.environ,
        "MIRA_API_KEY": KEY,
        "MIRA_API_BASE": api_base,
        "MIRA_STATE_DIR": str(path.parent / "state"),
    } | variables
    if redis_url is not None:
        env["MIRA_REDIS_URL"] = redis_url
    command: Sequence[str] = [*COMMAND, "run", os.fspath(path), *arguments]
    with path.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, cwd=path.parent, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def run_file(path: Path, api_base: str, *arguments: str, **variables: str) -> Ran:
    """Run a file until it is finished. Raise RuntimeError if a line was not answered."""
    began_s = time.monotonic()
    process = start_run(path, api_base, *arguments, **variables)
    ran = Ran(0.0)
    watch = Thread(target=_watch, args=(process, ran))
    watch.start()
    try:
        code = process.wait()
    finally:
        # If this process is stopped, the run must not continue.
        process.kill()
    ran.took_s = time.monotonic() - began_s
    watch.join()
    if code:
        raise RuntimeError(f"the run exited with code {code}:\n{path.with_suffix('.log').read_text()[-2000:]}")
    return ran


def _watch(process: subprocess.Popen[bytes], ran: Ran) -> None:
    while process.poll() is None:
        parts = {pid: _part(pid, process.pid) for pid in machine.tree(process.pid)}
        for pid, part in parts.items():
            ran.peak_mib[part] = max(ran.peak_mib.get(part, 0.0), machine.peak_mib(pid))
            ran.cpu_s[part] = max(ran.cpu_s.get(part, 0.0), machine.cpu_s([pid]))
        time.sleep(POLL_EVERY_S)


def _part(pid: int, run_pid: int) -> str:
    if pid == run_pid:
        return "run"
    return "server" if "valkey-server" in machine.command(pid) else "worker"
