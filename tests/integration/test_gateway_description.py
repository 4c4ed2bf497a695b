"""The gateway is what its OpenAPI document says: Schemathesis sends valid and invalid requests to every endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from mira_producer.gateway.jobs.job_ids import job_of_response

import tests
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.raw_server import RawServer
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import receiver

SUPPORT = Path(tests.__file__).parent / "support"
# It takes a minute. On a machine with much other work, it takes several.
TIMEOUT_S = 600
MODEL = "mira"
FINAL = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    """A receiver of webhooks. Without one, deliveries would wait for three days."""
    with receiver() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess, server: RawServer) -> Iterator[Gateway]:
    """A gateway without limits on requests other than its own."""
    options: dict[str, Any] = {"check_limits": "none", "webhook_hosts": "127.0.0.1"}
    with started_gateway(api_base=simulator_process.url, **options) as running:
        yield running
        end_all(running)


def end_all(gateway: Gateway) -> None:
    """Leave nothing open: jobs that start later, batches, and endpoints."""
    with gateway.client() as client, requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {gateway.key}"
        assert http.post(f"{gateway.url}/jobs/cancel", json={}, timeout=TIMEOUT_S).status_code == 200
        for batch in client.batches.list():
            if batch.status not in FINAL:
                client.batches.cancel(batch.id)
        for endpoint in client.webhooks.list():
            client.webhooks.delete(endpoint.id)


def line(number: int, model: str = MODEL) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": f"Hello {number}"}]}
    request = {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


def ended_batch(client: openai.OpenAI, content: bytes) -> Any:
    file = client.files.create(file=("a.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )

    def is_over() -> bool:
        return client.batches.retrieve(batch.id).status in ("completed", "failed")

    wait_until("the batch has ended", is_over)
    return client.batches.retrieve(batch.id)


def known_objects(gateway: Gateway, server: RawServer) -> dict[str, list[str]]:
    """Create an object of every resource, in every final state that it can have, and return their ids."""
    with gateway.client() as client, requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {gateway.key}"
        done = ended_batch(client, line(0) + line(1) + line(2, "unknown"))
        assert done.output_file_id
        assert done.error_file_id
        failed = ended_batch(client, b"not JSON\n")
        response = client.responses.create(model=MODEL, input="Hello", background=True)
        wrong = client.responses.create(model="unknown", input="Hello", background=True)
        wait_until("it failed", lambda: client.responses.retrieve(wrong.id).status == "failed")
        wait_until("it is done", lambda: client.responses.retrieve(response.id).status == "completed")
        chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        upload = client.uploads.create(bytes=10, filename="b", mime_type="text/plain", purpose="batch")
        later = {"body": {"messages": [{"role": "user", "content": "Later"}]}, "delay": 3600, "key": "later"}
        job = http.post(f"{gateway.url}/jobs", json=later, timeout=TIMEOUT_S).json()
        endpoint = client.webhooks.create(
            name="a", url=server.url, event_types=["batch.completed", "response.completed"]
        )
        return {
            "batches": [done.id, failed.id],
            "files": [done.input_file_id, done.output_file_id, done.error_file_id],
            "responses": [response.id, wrong.id],
            "chat": [chat.id],
            "uploads": [upload.id],
            "jobs": [job["id"], job_of_response(response.id), job_of_response(wrong.id)],
            "models": [client.models.list().data[0].id],
            "webhook_endpoints": [endpoint.id],
        }


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_gateway_is_what_its_description_says(gateway: Gateway, server: RawServer) -> None:
    environment = {
        **os.environ,
        "KNOWN_OBJECTS": json.dumps(known_objects(gateway, server)),
        "PYTHONPATH": str(SUPPORT.parent.parent),
    }
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SUPPORT / "api_description.toml"), "run"]
    options = ["--no-color", "--header", f"Authorization: Bearer {gateway.key}"]

    done = subprocess.run(
        [*command, gateway.url.replace("/v1", "/openapi.json"), *options],
        cwd=gateway.cli.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "Traceback" not in gateway.log.read_text()
