"""Smoke runs of every benchmark command, with small sizes: a command that fails cannot reproduce its figures.

The figures of these runs mean nothing. A missed target (exit code 1) is therefore not a failure.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240

# Name: (module and arguments, a word of its output).
RUNS: dict[str, tuple[str, str]] = {
    "simulator": ("bench.simulator --runs 1 --seconds 0.2 --connections 2", "ratio"),
    "pool": ("bench.pool --runs 1 --jobs 20 --slots 2", "gevent"),
    "webhook kills": ("bench.webhook_kills --jobs 20", "arrived"),
    "waits": ("bench.waits --jobs 20 --seconds 0.2", "woken"),
    "long waits": ("bench.long_waits --jobs 30 --days 1 --hour 0.05 --quota 5 --concurrency 2", "Retry-After"),
    "throughput": ("bench.bulk --quick --runs 1 --only throughput --without-peers", "stock Celery"),
    "submit": ("bench.bulk --quick --runs 1 --only submit", "lines/s"),
    "flat": ("bench.bulk --quick --runs 1 --only flat", "us/line"),
    "tail": ("bench.bulk --quick --runs 1 --only tail", "tail"),
    "alongside": ("bench.bulk --quick --runs 1 --only alongside", "alongside"),
    "outages": ("bench.outages --seconds 0.5 --in-flight 3 --kind refuse", "first answer"),
    "commands": ("bench.commands --command pause --in-flight 3 --call 1", "late"),
    "gateway files": ("bench.gateway_files --runs 1 --megabytes 4 --lines 50", "through the gateway"),
    "gateway retries": ("bench.gateway_retries --creates 12", "objects: 12"),
    "gateway jobs": ("bench.gateway_jobs --calls 3 --jobs 10 --runs 1 --waits 10", "open waits"),
    "page": ("bench.page --lines 200 --jobs 60 --waiting 20 --calls 2 --stream 0.2 --open 0.5", "open pages"),
    "pacing with peers": ("bench.pacing --only in-flight --runs 1 --peer-runs 1 --seconds 2", "documented retry loop"),
    "pacing servers": ("bench.pacing --only tokens --runs 1 --seconds 3", "took"),
    # The first kill with this seed is after 5.1 s.
    "pacing picture": ("bench.pacing --only both --seconds 6 --kill 31 --draw picture.svg", ""),
    "pacing overhead": ("bench.pacing.overhead --pairs 1 --jobs 100 --slots 4", "throughput"),
    "pacing server time": ("bench.pacing.server_time --jobs 100", "acquire"),
    "pacing first run": ("bench.pacing.first_run --lines 70 --scale 0.02", "ideal"),
}
# Runs of 20 s and more: `make test-bench`.
LONG = {"alongside", "flat", "tail", "throughput", "page", "waits"}
# Packages that a run needs and that only an extra installs.
NEEDS = {"pool": "gevent", "pacing picture": "matplotlib"}


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", *command.split()]
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_runs_to_its_end_and_prints_its_figures(name: str, tmp_path: Path) -> None:
    package = NEEDS.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if name in LONG and not os.environ.get("MIRA_TEST_BENCH"):
        pytest.skip("a long run: make test-bench")
    command, keyword = RUNS[name]

    done = run(command, tmp_path)

    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 1), done.stderr
    assert keyword in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("taskiq_redis") is None, reason="taskiq is not installed")
def test_the_comparison_with_taskiq_runs_to_its_end(tmp_path: Path) -> None:
    done = run("bench.bulk --quick --runs 1 --only throughput", tmp_path)

    assert "Traceback" not in done.stderr, done.stderr
    assert "taskiq" in done.stdout


def test_every_benchmark_command_has_a_smoke_run() -> None:
    # `python -m bench` only runs the others.
    started_by_others = {"bench", "bench.pacing.unpaced"}
    commands = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in (ROOT / "bench").rglob("*.py")
        if "peers" not in path.parts and "\nif __name__ ==" in path.read_text(encoding="utf-8")
    }

    assert commands - started_by_others == {command.split()[0] for command, _ in RUNS.values()}
