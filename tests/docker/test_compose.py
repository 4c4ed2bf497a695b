"""The compose stack on a real Docker Engine: `MIRA_TEST_DOCKER=1 python -m pytest tests/docker`.

The base images are stand-ins made from Debian's packages, unless PYTHON_IMAGE and REDIS_IMAGE are set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import redis

from mira_queue import Job, MiraQueue
from mira_queue.contract.states import JobState
from tests.docker.stack import PASSWORD, ROOT, Stack, needs_engine, running
from tests.support.queue_process import API_KEY
from tests.support.waiting import wait_until

# Long enough for a short call to end, short enough for a test to sit through it.
GRACE_S = 6
STOP_GRACE_S = GRACE_S + 10
TESTS_TIMEOUT_S = 1500.0

pytestmark = needs_engine


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running(MIRA_GRACE=str(GRACE_S), WORKER_STOP_GRACE=f"{STOP_GRACE_S}s") as stack:
        stack.up("redis")
        stack.up("simulator")
        yield stack


@pytest.fixture
def workers(stack: Stack) -> list[str]:
    """Two workers, healthy."""
    stack.up(workers=2)
    return stack.containers("worker")


@pytest.fixture
def queue(stack: Stack) -> Iterator[MiraQueue]:
    """A producer on this host."""
    with MiraQueue(redis_url=stack.redis_url(0)) as queue:
        yield queue


def ask(queue: MiraQueue, text: str) -> Job:
    return queue.enqueue([{"role": "user", "content": text}])


def wait_running(job: Job) -> None:
    wait_until("the job is running", lambda: job.status().state is JobState.RUNNING)


def test_the_image_holds_no_secret_and_does_not_run_as_root(stack: Stack) -> None:
    image = stack.inspect("mira-queue:test")
    history = stack.docker("history", "--no-trunc", "mira-queue:test")

    assert image["Config"]["User"] == "10001:10001"
    for secret in (API_KEY, PASSWORD):
        assert secret not in history
        assert secret not in str(image)


def test_the_server_lets_nobody_in_without_the_password(stack: Stack) -> None:
    with redis.Redis(port=stack.redis_port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_server_keeps_what_it_accepts(stack: Stack) -> None:
    with redis.Redis.from_url(stack.redis_url(0), decode_responses=True) as client:
        config = client.config_get()

    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "always"
    assert config["maxmemory-policy"] == "noeviction"


def test_the_server_is_reached_from_this_host_only(stack: Stack) -> None:
    (container,) = stack.containers("redis")

    assert [port["HostIp"] for port in stack.inspect(container)["NetworkSettings"]["Ports"]["6379/tcp"]] == [
        "127.0.0.1"
    ]


def test_no_secret_is_in_a_process_list(stack: Stack, workers: list[str]) -> None:
    listed = [stack.docker("top", container) for container in (*stack.containers("redis"), *workers)]

    assert all(secret not in text for secret in (API_KEY, PASSWORD) for text in listed)


def test_workers_have_no_rights_that_they_do_not_need(stack: Stack, workers: list[str]) -> None:
    for container in workers:
        host = stack.inspect(container)["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert stack.docker("exec", container, "id", "-u").strip() == "10001"


def test_a_job_sent_from_this_host_is_answered(workers: list[str], queue: MiraQueue) -> None:
    assert ask(queue, "Hello").result(timeout=60).text == "Simulated answer to: Hello"


def test_a_one_off_sends_a_job_and_prints_its_answer(stack: Stack, workers: list[str]) -> None:
    printed = stack.compose("run", "--rm", "-T", "worker", "enqueue", "--wait", "Hello")

    assert printed.strip() == "Simulated answer to: Hello"


def test_a_worker_that_has_lost_the_server_is_unhealthy_until_it_is_back(stack: Stack, workers: list[str]) -> None:
    stack.compose("pause", "redis")
    try:
        stack.wait_health(workers[0], "unhealthy")
    finally:
        stack.compose("unpause", "redis")
    stack.wait_health(workers[0], "healthy")


def test_a_killed_server_has_lost_no_accepted_job(stack: Stack, queue: MiraQueue) -> None:
    stack.compose("stop", "worker")
    jobs = [ask(queue, f"kept {number}") for number in range(20)]

    stack.compose("kill", "--signal", "SIGKILL", "redis")
    stack.up("redis", workers=2)

    assert [job.result(timeout=60).text for job in jobs] == [f"Simulated answer to: kept {n}" for n in range(20)]


def test_a_stopped_worker_finishes_the_calls_that_end_within_its_grace(
    stack: Stack, workers: list[str], queue: MiraQueue
) -> None:
    job = ask(queue, "[[sim:slow=3]] short")
    wait_running(job)

    stack.compose("stop", "worker")

    assert [stack.inspect(container)["State"]["ExitCode"] for container in workers] == [0, 0]
    outcome = job.result(timeout=0)
    assert outcome.attempts == 1
    assert outcome.unanswered_calls == 0


def test_a_stopped_worker_hands_back_the_calls_that_do_not(stack: Stack, workers: list[str], queue: MiraQueue) -> None:
    job = ask(queue, "[[sim:slow=300]] long")
    wait_running(job)

    began_s = time.monotonic()
    stack.compose("stop", "worker")
    took_s = time.monotonic() - began_s

    assert [stack.inspect(container)["State"]["ExitCode"] for container in workers] == [0, 0]
    assert took_s < STOP_GRACE_S
    assert job.status().state is JobState.QUEUED
    assert job.cancel()


def test_the_integration_tests_pass_on_this_server(stack: Stack) -> None:
    # A database of its own: the workers of the stack, in database 0, would take the tests' jobs.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/integration"],
        cwd=ROOT,
        env=os.environ | {"MIRA_TEST_REDIS_URL": stack.redis_url(1)},
        capture_output=True,
        text=True,
        timeout=TESTS_TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
