"""The Rust SDK async-openai against a gateway: `make test-sdks`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway_process import started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import receiver

FOLDER = Path(__file__).parent
BUILD_TIMEOUT_S = 1800
RUN_TIMEOUT_S = 120
STEPS = (
    "models",
    "files",
    "batches",
    "batches.cancel",
    "uploads",
    "chat.completions",
    "chat.completions as a stream",
    "chat.completions later",
    "responses in the background",
    "responses",
    "errors",
    "webhooks",
)
pytestmark = [
    pytest.mark.skipif(not os.environ.get("MIRA_TEST_SDKS"), reason="it downloads packages: make test-sdks"),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="no cargo to build the Rust SDK with"),
    pytest.mark.timeout(BUILD_TIMEOUT_S + 2 * RUN_TIMEOUT_S),
]


@pytest.fixture(scope="module")
def program() -> Path:
    """The program, built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", FOLDER / "target"))
    command = ["cargo", "build", "--quiet", "--manifest-path", str(FOLDER / "Cargo.toml")]
    subprocess.run([*command, "--target-dir", str(target)], check=True, timeout=BUILD_TIMEOUT_S)
    return target / "debug" / "sdk-rust"


def test_every_operation_of_the_rust_sdk_works(program: Path, simulator_process: SimulatorProcess) -> None:
    with (
        started_gateway(api_base=simulator_process.url, webhook_hosts="127.0.0.1") as gateway,
        receiver() as server,
        gateway.client() as client,
    ):
        endpoint = client.webhooks.create(name="rust", url=server.url, event_types=["response.completed"])
        client.responses.create(model="mira", input="Hello", background=True)
        (delivery,) = wait_until("the event has arrived", lambda: server.requests)
        client.webhooks.delete(endpoint.id)
        variables = {
            "OPENAI_BASE_URL": gateway.url,
            "OPENAI_API_KEY": gateway.key,
            "WEBHOOK_ID": delivery.headers["webhook-id"],
            "WEBHOOK_TIMESTAMP": delivery.headers["webhook-timestamp"],
            "WEBHOOK_SIGNATURE": delivery.headers["webhook-signature"],
            "WEBHOOK_SECRET": endpoint.signing_secret or "",
            "WEBHOOK_BODY": delivery.body.decode(),
        }

        done = subprocess.run(
            [program],
            env={**os.environ, **variables, "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == list(STEPS)
