"""The programs in docs/gateway.md, as they are printed there: curl, Python, Node, and Ruby."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

import tests
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

DOCUMENT = Path(tests.__file__).parent.parent / "docs" / "gateway.md"
COMMANDS = {
    "sh": ("sh", ".sh"),
    "python": (sys.executable, ".py"),
    "js": ("node", ".mjs"),
    "ruby": ("ruby", ".rb"),
}
TIMEOUT_S = 60
LINES = "".join(f'{{"custom_id": "{name}", "prompt": "Hello {name}"}}\n' for name in "abc")
BATCH, BACKGROUND, RECEIVER = "From a file to its answers", "One job in the background", "A receiver of webhooks"


def programs() -> dict[tuple[str, str], str]:
    """Return the programs of the document by section and language."""
    found = {}
    for section in DOCUMENT.read_text().split("\n### ")[1:]:
        title = section.partition("\n")[0]
        for language, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
            found[title, language] = text
    return found


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    """A gateway that delivers to this machine."""
    with started_gateway(api_base=simulator_process.url, webhook_hosts="localhost") as running:
        yield running


class Example:
    """A program of the document, with what it needs, in a folder of its own."""

    def __init__(self, gateway: Gateway, folder: Path, title: str, language: str, **variables: str) -> None:
        program, ending = COMMANDS[language]
        needed = [program, *(["curl", "jq"] if language == "sh" else [])]
        if missing := [each for each in needed if shutil.which(each) is None]:
            pytest.skip(f"not installed: {', '.join(missing)}")
        file = folder / f"example{ending}"
        file.write_text(programs()[title, language])
        (folder / "requests.jsonl").write_text(LINES)
        self.command = [program, str(file)]
        self.folder = folder
        variables |= {"OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": gateway.key}
        self.environment = {**os.environ, **variables, "no_proxy": "*"}

    def output(self) -> str:
        done = subprocess.run(
            self.command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, log: Path) -> Iterator[None]:
        with (
            log.open("wb") as stream,
            subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=stream, stderr=subprocess.STDOUT
            ) as process,
        ):
            try:
                yield
            finally:
                process.kill()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def post(port: int, body: bytes, headers: dict[str, str]) -> int:
    with requests.Session() as http:
        http.trust_env = False
        return http.post(f"http://127.0.0.1:{port}/", body, headers=headers, timeout=TIMEOUT_S).status_code


def test_every_language_has_every_example() -> None:
    assert {(title, language) for title in (BATCH, BACKGROUND, RECEIVER) for language in COMMANDS} == set(programs())


@pytest.mark.parametrize("language", COMMANDS)
def test_a_file_becomes_its_answers(gateway: Gateway, tmp_path: Path, language: str) -> None:
    found = [json.loads(line) for line in Example(gateway, tmp_path, BATCH, language).output().splitlines()]

    assert sorted(line["custom_id"] for line in found) == ["a", "b", "c"]
    assert all(line["response"]["body"]["choices"][0]["message"]["content"] for line in found)


@pytest.mark.parametrize("language", COMMANDS)
def test_a_job_in_the_background_is_answered(gateway: Gateway, tmp_path: Path, language: str) -> None:
    assert Example(gateway, tmp_path, BACKGROUND, language).output().strip() not in ("", "null", "undefined")


@pytest.mark.parametrize("language", [name for name in COMMANDS if name != "sh"])
def test_a_receiver_accepts_a_delivery_and_rejects_a_forged_one(
    gateway: Gateway, tmp_path: Path, language: str
) -> None:
    port, log = free_port(), tmp_path / "log"
    secret = Example(gateway, tmp_path, RECEIVER, "sh", PORT=str(port)).output().strip()
    receiver = Example(gateway, tmp_path, RECEIVER, language, PORT=str(port), WEBHOOK_SECRET=secret)
    with gateway.client() as client, receiver.running(log):
        wait_until("it listens", lambda: is_listening(port))
        response = client.responses.create(model="mira", input="Hello", background=True)
        wait_until("the event has arrived", lambda: f"response.completed {response.id}" in log.read_text())

        time = str(response.created_at)
        forged: dict[str, Any] = {"id": "evt_1", "object": "event", "type": "response.completed", "data": {"id": "x"}}
        headers = {"webhook-id": "evt_1", "webhook-timestamp": time, "webhook-signature": "v1,c2lnbmF0dXJl"}
        assert post(port, json.dumps(forged).encode(), headers) == 400
        assert post(port, b"", {}) == 400

        for endpoint in client.webhooks.list():
            client.webhooks.delete(endpoint.id)
    assert log.read_text().splitlines() == [f"response.completed {response.id}"]
