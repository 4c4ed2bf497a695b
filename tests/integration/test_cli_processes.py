"""`mira-queue worker` and `simulate`: what they start, how that ends, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from mira_producer.fleet import MAX_EARLY_EXITS, Fleet, WorkersFail
from mira_producer.processes import StartError, environment_of, start_simulator, start_worker, stop

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.names import Lane
from mira_queue.ledger.records import NewJob, new_job_id
from tests.support.batch_steps import end_supervisors, entries, submitted
from tests.support.child_processes import children
from tests.support.cli_process import Cli
from tests.support.queue_process import API_KEY
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def cli(redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Cli:
    return Cli(tmp_path, redis_url=redis_url, api_base=simulator.url)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is started is killed at the end, if it is still there."""
    with ExitStack() as open_ones:
        yield open_ones


def start(cli: Cli, stack: ExitStack, *arguments: str, **settings: Any) -> tuple[subprocess.Popen[str], Path]:
    log = cli.folder / "log"
    process = stack.enter_context(cli.start(*arguments, log=log, **settings))
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
    process, log = start(cli, stack, "worker", "--single-processes", "0", "--concurrency", "2")
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
    pids = ready_pids(log, 3)
    commands = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", ",".join(map(str, pids))], capture_output=True, text=True, check=True
    ).stdout
    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE_S) == 0
    assert all(is_gone(pid) for pid in pids)
    assert commands.count("-m mira_worker") == 3
    assert commands.count("--queues mira.jobs") == 1
    assert API_KEY not in commands


def test_under_nohup_workers_do_not_hear_of_a_terminal_that_is_closed(cli: Cli, stack: ExitStack) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process, log = start(cli, stack, "worker")
    finally:
        signal.signal(signal.SIGHUP, before)
    ready_pids(log, 2)
    [ignored] = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    process.terminate()

    assert int(ignored, 16) & 1 << signal.SIGHUP - 1
    assert process.wait(PATIENCE_S) == 0


def test_workers_end_when_the_command_is_killed(cli: Cli, stack: ExitStack) -> None:
    process, log = start(cli, stack, "worker")
    pids = ready_pids(log, 2)
    process.kill()

    wait_until("all workers are gone", lambda: all(is_gone(pid) for pid in pids))


@pytest.mark.parametrize("place", [0, 1])
def test_a_worker_that_dies_is_told_of_and_replaced(place: int, cli: Cli, stack: ExitStack) -> None:
    process, log = start(cli, stack, "worker")
    pids = ready_pids(log, 2)
    os.kill(pids[place], signal.SIGKILL)
    ready_pids(log, 3)
    answered = cli("enqueue", "--wait", "hello")
    process.send_signal(signal.SIGTERM)

    assert "a worker has crashed (exit code -9)" in log.read_text()
    assert answered.out == "Simulated answer to: hello\n"
    assert process.wait(PATIENCE_S) == 0


def test_a_worker_that_is_killed_is_replaced_each_time(settings: Any, tmp_path: Path) -> None:
    said: list[str] = []
    fleet = Fleet(settings, 1, tmp_path / "log", said.append)
    fleet.start()

    def are_replaced(count: int) -> bool:
        fleet.replace_crashed()
        return len(said) == count

    for count in range(1, MAX_EARLY_EXITS + 2):
        (pid,) = wait_until("it has started", lambda: children(os.getpid(), "mira_worker"))
        os.kill(pid, signal.SIGKILL)
        wait_until("it is replaced", partial(are_replaced, count))
    fleet.stop(timedelta(seconds=PATIENCE_S), at_once=True)


def test_workers_that_cannot_start_are_not_started_for_ever(settings: Any, tmp_path: Path) -> None:
    said: list[str] = []
    fleet = Fleet(settings.model_copy(update={"log_format": "nonsense"}), 1, tmp_path / "log", said.append, single=1)
    fleet.start()
    with pytest.raises(WorkersFail, match=r"\(exit code 1\): see .*log\n(.*\n)*MIRA_LOG_FORMAT: "):
        wait_until("it is given up", fleet.replace_crashed)

    assert len(said) == 2
    assert all("has crashed (exit code 1)" in line for line in said)
    fleet.stop(timedelta(seconds=PATIENCE_S))


def test_a_file_of_the_users_named_as_ours_is_not_run(cli: Cli, stack: ExitStack) -> None:
    (cli.folder / "worker.py").write_text("raise SystemExit('this is the web app')")
    _, log = start(cli, stack, "worker", "--single-processes", "0")

    ready_pids(log, 1)


def test_a_single_job_does_not_wait_for_a_slot_that_a_file_has_taken(
    account: str, cli: Cli, stack: ExitStack, queue: MiraQueue, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    process, log = start(cli, stack, "worker", "--concurrency", "2", "--log-level", "debug")
    ready_pids(log, 2)
    slow = queue.check({"messages": [{"role": "user", "content": "[[sim:slow=300]]"}]})
    lines = queue.accept([NewJob(slow, new_job_id(), lane=Lane.BULK) for _ in range(20)])
    wait_until("every slot is taken", lambda: simulator.stats()["in_flight"] == 2)
    wait_until("messages of the file wait", lambda: redis_client.llen(names.messages_key(account, Lane.BULK)) > 0)

    assert queue.enqueue([{"role": "user", "content": "Hello"}]).result(PATIENCE_S).attempts == 1
    assert not any(line.status().state.is_final for line in lines)
    for line in lines:
        line.cancel()
    # Twice: those calls would take five minutes.
    process.send_signal(signal.SIGTERM)
    wait_until("it stops", lambda: '"stopping"' in log.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_batch_whose_supervisor_was_killed_gets_another_though_nobody_asks_for_it(
    cli: Cli, stack: ExitStack, simulator: SimulatorProcess, queue: MiraQueue
) -> None:
    _, log = start(cli, stack, "worker", state_dir=queue.settings.state_dir, rescue_interval="0.5")
    ready_pids(log, 2)
    simulator.configure(latency_s=[3, 3])
    batch_id = submitted(queue, cli.folder, entries(3))
    stack.callback(end_supervisors, queue)
    wait_until("a call is under way", lambda: simulator.stats()["in_flight"])
    end_supervisors(queue)

    # The ledger is asked, not the client, which would start a supervisor.
    wait_until("it is done", lambda: queue.ledger.batch(batch_id).status is BatchStatus.COMPLETED)
    assert simulator.stats()["calls"] == 3


def test_a_signal_to_the_command_and_to_its_workers_counts_once(
    cli: Cli, stack: ExitStack, queue: MiraQueue, simulator: SimulatorProcess
) -> None:
    """As systemd sends it: to every process of a service."""
    process, log = start(cli, stack, "worker", grace=60)
    pids = ready_pids(log, 2)
    job = queue.enqueue([{"role": "user", "content": "[[sim:slow=3]]"}])
    wait_until("the call is in flight", lambda: simulator.stats()["in_flight"] == 1)
    for pid in (*pids, process.pid):
        os.kill(pid, signal.SIGTERM)

    assert process.wait(PATIENCE_S) == 0
    assert job.result(PATIENCE_S).unanswered_calls == 0
    assert log.read_text().count("jobs_released") == 0
    assert "has crashed" not in log.read_text()


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


def test_a_wrong_option_of_the_simulator_is_an_error_under_the_name_of_the_command(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    wrong = cli("simulate", "--rate", "fast")
    help_text = cli("simulate", "--help")

    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.splitlines()[-1].startswith("mira-queue simulate: error: rate")
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
    assert "--fault" in log.read_text()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    name, _, url = process.stdout.readline().strip().partition("=")
    assert name == "MIRA_API_BASE"
    return url


def _config(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/sim/config", timeout=PATIENCE_S) as answer:
        return dict(json.loads(answer.read()))
