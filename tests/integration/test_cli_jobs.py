"""Jobs from the command line: in, looked at, out, cancelled, tried again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mira_queue.ledger.embedded import EmbeddedServer
from tests.support.cli_process import Cli
from tests.support.queue_process import WorkerProcess
from tests.support.simulator_process import SimulatorProcess

NOBODY = str(uuid.UUID(int=0))


@pytest.fixture
def cli(redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> Cli:
    """On the session's server and simulator, with an empty working directory."""
    return Cli(tmp_path, redis_url=redis_url, api_base=simulator.url)


@pytest.fixture
def lonely_cli(short_folder: Path, tmp_path: Path, closed_port: int) -> Iterator[Cli]:
    """On an embedded server that no worker knows; held, so that not every command starts and stops it."""
    state_dir = short_folder / tmp_path.name
    with EmbeddedServer(state_dir):
        yield Cli(tmp_path, state_dir=state_dir, api_base=f"http://127.0.0.1:{closed_port}/v1")


def test_a_job_is_handed_in_and_its_answer_asked_for_later(cli: Cli, worker: WorkerProcess) -> None:
    accepted = cli("enqueue", "hello")
    job_id = accepted.out.strip()
    answered = cli("result", "--timeout", "30", job_id)
    status = cli("status", job_id)

    assert (accepted.code, accepted.out, accepted.err) == (0, f"{uuid.UUID(job_id)}\n", "")
    assert (answered.code, answered.out, answered.err) == (0, "Simulated answer to: hello\n", "")
    heading, row = (line.split("\t") for line in status.out.splitlines())
    shown = dict(zip(heading, row, strict=True))
    assert (shown["id"], shown["state"], shown["attempts"], shown["due"]) == (job_id, "succeeded", "1", "")


def test_with_wait_standard_output_is_the_answer_and_nothing_else(cli: Cli, worker: WorkerProcess) -> None:
    done = cli("enqueue", "--wait", "--system", "Be brief.", "-", stdin="from a pipe: ü\n")

    assert (done.code, done.out) == (0, "Simulated answer to: from a pipe: ü\n")
    assert "is accepted; waiting" in done.err


def test_a_failed_job_is_one_line_and_runs_again_on_command(
    cli: Cli, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    simulator.configure(balance_calls=0)
    failed = cli("enqueue", "--wait", "--json", "hello")
    job_id = failed.json["id"]
    line = cli("result", job_id)
    simulator.configure(balance_calls=None)
    again = cli("retry", job_id, NOBODY)
    answered = cli("result", "--wait", job_id)

    assert (failed.code, failed.json["state"], failed.json["completion"]) == (1, "failed", None)
    assert (failed.json["error"]["code"], failed.json["error"]["status"]) == ("balance_used_up", 402)
    assert (line.code, line.out, line.err.count("\n")) == (1, "", 1)
    assert f"job {job_id} failed: balance_used_up (402): " in line.err
    assert (again.code, again.err.splitlines()[0]) == (1, f"mira-queue: job {job_id} is queued again")
    assert f"no job {NOBODY}" in again.err
    assert answered.out == "Simulated answer to: hello\n"


def test_without_a_worker_a_job_waits_and_says_so_until_it_is_cancelled(lonely_cli: Cli) -> None:
    cli = lonely_cli
    waited = cli("enqueue", "--timeout", "4", "hello")
    job_id = waited.err.split()[2]
    looked = cli("result", "--json", job_id)
    cancelled = cli("cancel", "--json", job_id, NOBODY)
    ended = cli("result", job_id)
    status = cli("status", "--json", job_id, NOBODY)
    briefly = cli("enqueue", "--timeout", "0.5", "hello")
    waiting = cli("status", "--json", briefly.err.split()[2])
    cli("cancel", waiting.json[0]["id"])

    assert (waited.code, waited.out) == (4, "")
    assert "no worker is running: start one" in waited.err
    assert f"job {job_id} has not finished within 4 s" in waited.err
    assert "no worker is running" in briefly.err
    assert (waiting.code, waiting.json[0]["reason"]) == (0, "no worker is running")
    assert (looked.code, looked.json["state"]) == (4, "queued")
    assert cancelled.code == 1
    assert [entry["done"] for entry in cancelled.json] == [True, False]
    assert (ended.code, ended.err.count("\n"), ended.err.count("cancelled")) == (1, 1, 1)
    assert (status.code, [entry["state"] for entry in status.json]) == (1, ["cancelled"])
