"""The gateway of the compose stack, used from this host with the official SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import openai
import pytest
import requests
from openai.types.chat import ChatCompletionMessageParam

from mira_queue import MiraQueue
from mira_queue.contract.states import JobState
from tests.docker.stack import Stack, needs_engine, running
from tests.support.waiting import wait_until

# Long enough for an open request to end, short enough for a test to wait for it.
GRACE_S = 15
STOP_GRACE_S = GRACE_S + 10

pytestmark = needs_engine


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running(MIRA_GRACE=str(GRACE_S), WORKER_STOP_GRACE=f"{STOP_GRACE_S}s") as stack:
        stack.up("redis", "simulator", workers=1)
        yield stack


@pytest.fixture
def gateway(stack: Stack) -> str:
    """The container of a healthy gateway."""
    stack.up("gateway")
    (container,) = stack.containers("gateway")
    return container


@pytest.fixture
def client(stack: Stack, gateway: str) -> Iterator[openai.OpenAI]:
    """An app on this host, with a key that was created in the container."""
    key = stack.docker("exec", gateway, "mira-queue", "keys", "create", "--name", "app1").strip()
    with openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key=key) as client:
        yield client


def line(name: str) -> str:
    body = {"model": "mira", "messages": [{"role": "user", "content": name}]}
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})


def test_a_healthy_gateway_responds_and_reaches_the_server_and_the_worker(stack: Stack, gateway: str) -> None:
    assert requests.get(f"{stack.gateway_url}/healthz", timeout=30).json()["status"] == "ok"
    assert requests.get(f"{stack.gateway_url}/readyz", timeout=30).json()["workers"] >= 1


def test_a_gateway_that_has_lost_the_server_is_unhealthy_until_it_is_back(stack: Stack, gateway: str) -> None:
    stack.compose("pause", "redis")
    try:
        stack.wait_health(gateway, "unhealthy")
        assert requests.get(f"{stack.gateway_url}/healthz", timeout=30).status_code == 200
    finally:
        stack.compose("unpause", "redis")
    stack.wait_health(gateway, "healthy")


def test_the_gateway_has_no_rights_that_it_does_not_need(stack: Stack, gateway: str) -> None:
    found = stack.inspect(gateway)

    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert [port["HostIp"] for port in found["NetworkSettings"]["Ports"]["8080/tcp"]] == ["127.0.0.1"]


def test_the_page_asks_for_a_key(stack: Stack, gateway: str) -> None:
    page = requests.get(stack.gateway_url, timeout=30)

    assert page.status_code == 200
    assert urlsplit(page.url).path == "/sign-in"


def test_a_background_response_is_answered(client: openai.OpenAI) -> None:
    response = client.responses.create(input="Hello", background=True)
    wait_until("it is completed", lambda: client.responses.retrieve(response.id).status == "completed")

    assert client.responses.retrieve(response.id).output_text == "Simulated answer to: Hello"


def test_files_and_answers_outlive_the_container(stack: Stack, client: openai.OpenAI) -> None:
    upload = client.files.create(file=("in.jsonl", "\n".join(map(line, "abc")).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h")
    wait_until("it is completed", lambda: client.batches.retrieve(batch.id).status == "completed")
    output = client.batches.retrieve(batch.id).output_file_id
    assert output is not None
    before = [client.files.content(each).text for each in (upload.id, output)]

    stack.compose("rm", "--stop", "--force", "gateway")
    stack.up("gateway")

    assert [client.files.content(each).text for each in (upload.id, output)] == before
    assert {json.loads(each)["custom_id"] for each in before[1].splitlines()} == set("abc")


def test_a_batch_that_a_killed_gateway_has_begun_is_completed(stack: Stack, client: openai.OpenAI) -> None:
    content = "\n".join(line(f"[[sim:slow=1]] {n}") for n in range(200)).encode()
    upload = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h")

    stack.compose("kill", "--signal", "SIGKILL", "gateway")
    stack.up("gateway")

    wait_until("it is completed", lambda: client.batches.retrieve(batch.id).status == "completed")
    counts = client.batches.retrieve(batch.id).request_counts
    assert counts is not None
    assert (counts.completed, counts.failed) == (200, 0)


def test_a_stopped_gateway_answers_its_open_request(stack: Stack, gateway: str, client: openai.OpenAI) -> None:
    once = client.with_options(max_retries=0)

    def ask() -> str | None:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "[[sim:slow=4]] drained"}]
        return once.chat.completions.create(model="mira", messages=messages).choices[0].message.content

    with ThreadPoolExecutor(1) as pool, MiraQueue(redis_url=stack.redis_url(0)) as queue:
        waiting = pool.submit(ask)
        wait_until("it is in flight", lambda: list(queue.jobs(state=JobState.RUNNING)))

        stack.docker("stop", "--time", str(STOP_GRACE_S), gateway)

        assert "drained" in (waiting.result() or "")
    assert stack.inspect(gateway)["State"]["ExitCode"] == 0
