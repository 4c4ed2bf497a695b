"""`mira-queue worker` and `simulate`: what they start, how that ends, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from producer.processes import StartError, environment_of, start_simulator, start_worker, stop
from tests.cli_process import Cli
from tests.queue_process import API_KEY
from tests.simulator_process import SimulatorProcess
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def cli(redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Cli:
    return Cli(tmp_path, redis_url=redis_url, api_base=simulator.url)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is started is killed at the end, if it is still there."""
    with ExitStack() as open_ones:
        yield open_ones


def start(cli: Cli, stack: ExitStack, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
    log = cli.folder / "log"
    process = stack.enter_context(cli.start(*arguments, log=log))
    stack.callback(process.kill)
    return process, log


def ready_pids(log: Path, count: int) -> list[int]:
    """Process ids of `count` workers that have said that they are ready."""

    def said() -> list[int]:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line[-1] == "}"]
        found = [line["pid"] for line in lines if line["event"] == "ready"]
        return found if len(found) == count else []

    return wait_until(f"{count} workers are ready", said)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Ended, and its new parent has not looked yet.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip() or state.startswith("Z")


def test_a_worker_takes_the_commands_place_and_ends_with_it(cli: Cli, stack: ExitStack) -> None:
    process, log = start(cli, stack, "worker", "--concurrency", "2")
    pids = ready_pids(log, 1)
    answered = cli("enqueue", "--wait", "hello")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE_S)

    assert pids == [process.pid]
    assert answered.out == "Simulated answer to: hello\n"
    assert (process.returncode, out) == (0, "")
    assert '"concurrency":2' in log.read_text()
    assert API_KEY not in log.read_text()


def test_several_workers_are_stopped_by_one_ctrl_c(cli: Cli, stack: ExitStack) -> None:
    process, log = start(cli, stack, "worker", "--processes", "2")
    pids = ready_pids(log, 2)
    commands = subprocess.run(
        ["ps", "-o", "args=", "-p", ",".join(map(str, pids))], capture_output=True, text=True, check=True
    ).stdout
    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE_S) == 0
    assert all(is_gone(pid) for pid in pids)
    assert commands.count("-m worker") == 2
    assert API_KEY not in commands


def test_workers_end_when_the_command_is_killed(cli: Cli, stack: ExitStack) -> None:
    process, log = start(cli, stack, "worker", "--processes", "2")
    pids = ready_pids(log, 2)
    process.kill()

    wait_until("all workers are gone", lambda: all(is_gone(pid) for pid in pids))


def test_a_worker_that_dies_is_told_of_and_the_other_goes_on(cli: Cli, stack: ExitStack) -> None:
    process, log = start(cli, stack, "worker", "--processes", "2")
    first, _ = ready_pids(log, 2)
    os.kill(first, signal.SIGKILL)
    wait_until("its death is told", lambda: f"worker {first} ended by itself, exit code -9; 1 left" in log.read_text())
    answered = cli("enqueue", "--wait", "hello")
    process.send_signal(signal.SIGTERM)

    assert answered.out == "Simulated answer to: hello\n"
    assert process.wait(PATIENCE_S) == 1


def test_without_a_key_no_worker_starts_for_it_would_fail_every_job(cli: Cli) -> None:
    done = cli("worker", api_key=None)

    assert (done.code, done.out) == (2, "")
    assert "MIRA_API_KEY is not set" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_simulator_says_where_it_is_and_ends_with_the_command(
    number: signal.Signals, tmp_path: Path, stack: ExitStack
) -> None:
    process, log = start(Cli(tmp_path), stack, "simulate", "--rate", "5/60")
    url = _url(process)
    config = _config(url)
    # Its address is on standard output a moment before the words for a person are.
    wait_until("it says where it is", lambda: f"export MIRA_API_BASE={url}" in log.read_text())
    process.send_signal(number)

    assert config["rate"] == 5
    assert process.wait(PATIENCE_S) == 0
    with pytest.raises(OSError, match="refused"):
        _config(url)


def test_the_simulator_ends_when_the_command_is_killed(tmp_path: Path, stack: ExitStack) -> None:
    process, _ = start(Cli(tmp_path), stack, "simulate")
    url = _url(process)
    process.kill()

    def refuses() -> bool:
        try:
            _config(url)
        except OSError:
            return True
        return False

    wait_until("nobody listens any more", refuses)


def test_a_wrong_option_of_the_simulator_is_its_own_complaint_under_our_name(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    wrong = cli("simulate", "--rate", "fast")
    help_text = cli("simulate", "--help")

    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.splitlines()[-1].startswith("mira-queue simulate: error: --rate fast")
    assert (help_text.code, help_text.out.split()[:3]) == (0, ["usage:", "mira-queue", "simulate"])


def test_a_process_that_does_not_heed_sigterm_is_killed_after_its_grace() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()

    assert stop(process, timedelta(seconds=0.2)) == -signal.SIGKILL


def test_processes_started_from_python_write_to_their_log_and_end_when_told(
    redis_url: str, tmp_path: Path, settings: Any
) -> None:
    log = tmp_path / "worker.log"
    worker = start_worker(environment_of(settings), log=log)
    try:
        ready_pids(log, 1)
    finally:
        code = stop(worker, timedelta(seconds=PATIENCE_S))

    assert code == 0
    assert log.stat().st_mode & 0o077 == 0
    with pytest.raises(StartError, match="did not start") as caught:
        start_simulator(["--fault", "nonsense"], log=log)
    assert caught.value.exit_code == 2
    assert "--fault nonsense" in log.read_text()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    name, _, url = process.stdout.readline().strip().partition("=")
    assert name == "MIRA_API_BASE"
    return url


def _config(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/sim/config", timeout=PATIENCE_S) as answer:
        return dict(json.loads(answer.read()))
