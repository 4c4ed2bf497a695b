"""The gateway as a whole: what it accepts, what it rejects and how, and how it starts and stops."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai
import pytest
import requests
from mira_producer.cli.own_simulator import SERVE_GROUP, simulated
from prometheus_client.parser import text_string_to_metric_families

from mira_queue import MiraQueue
from mira_queue.contract.batch import is_simulated
from mira_queue.runtime.settings_loader import load_settings
from tests.support.batch_steps import end_supervisors
from tests.support.child_processes import children
from tests.support.cli_process import Cli
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 30
pytestmark = pytest.mark.usefixtures("gateway")


def call(gateway: Gateway, method: str, path: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{gateway.port}{path}"
        return session.request(method, url, timeout=TIMEOUT_S, **options)


def error_of(response: requests.Response) -> dict[str, Any]:
    assert response.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def raw(gateway: Gateway, data: bytes) -> bytes:
    """Send bytes, and return all that arrives until the gateway closes the connection."""
    with socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT_S) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def is_listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_a_health_check_needs_no_key_and_readiness_counts_the_workers(gateway: Gateway) -> None:
    assert call(gateway, "GET", "/healthz").json() == {"status": "ok"}
    wait_until(
        "its worker is ready", lambda: call(gateway, "GET", "/readyz").json() == {"status": "ready", "workers": 2}
    )


def test_prometheus_and_a_scaler_read_the_queue_with_a_key_that_may_only_read(
    gateway: Gateway, openai_client: openai.OpenAI
) -> None:
    openai_client.chat.completions.create(model="mira", messages=[{"role": "user", "content": "Hi"}])
    reader = {"Authorization": f"Bearer {gateway.create_key('a-reader', '--scope', 'read')}"}

    text = call(gateway, "GET", "/metrics", headers=reader)
    wanted = call(gateway, "GET", "/v1/workers_wanted", headers=reader).json()

    assert text.headers["content-type"].startswith("text/plain; version=")
    counts = {family.name: family.samples for family in text_string_to_metric_families(text.text)}
    [ended] = [each for each in counts["mira_queue_jobs_ended"] if each.labels["outcome"] == "succeeded"]
    assert ended.labels["kind"] == "job"
    assert ended.value >= 1
    assert sum(each.value for each in counts["mira_queue_call_duration_seconds"] if each.name.endswith("_count")) >= 1
    assert wanted["workers_wanted"] == 0
    assert wanted["workers"] >= 1
    for path in ("/metrics", "/v1/workers_wanted"):
        assert call(gateway, "GET", path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind", "code"),
    [
        ("GET", "/v1/nothing", {}, 404, "not_found_error", "unknown_url"),
        ("GET", "/healthz/", {}, 404, "not_found_error", "unknown_url"),
        ("POST", "/healthz", {}, 405, "invalid_request_error", "method_not_allowed"),
        ("GET", "/healthz", {"Host": "rebound.example.com"}, 421, "invalid_request_error", "unknown_host"),
        ("GET", "/healthz", {f"x-{n}": "y" for n in range(101)}, 431, "invalid_request_error", "headers_too_large"),
        ("GET", "/healthz", {"x-long": "y" * 70_000}, 431, "invalid_request_error", "headers_too_large"),
        ("GET", f"/{'y' * 70_000}", {}, 431, "invalid_request_error", "headers_too_large"),
    ],
)
def test_every_error_has_openais_format_and_a_request_id(
    gateway: Gateway, method: str, path: str, headers: dict[str, str], status: int, kind: str, code: str
) -> None:
    response = call(gateway, method, path, headers=headers)

    error = error_of(response)
    assert (response.status_code, error["type"], error["code"]) == (status, kind, code)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:9", "10.1.2.3:80", "LOCALHOST"])
def test_addresses_and_localhost_are_allowed_hosts(gateway: Gateway, host: str) -> None:
    assert call(gateway, "GET", "/healthz", headers={"Host": host}).status_code == 200


def test_what_is_not_http_gets_an_error_object(gateway: Gateway) -> None:
    answer = raw(gateway, b"\x16\x03\x01 this is not HTTP\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_a_header_that_never_ends_is_cut_off(gateway: Gateway) -> None:
    answer = raw(gateway, b"GET /healthz HTTP/1.1\r\nx-long: " + b"y" * 400_000)

    assert answer.startswith(b"HTTP/1.1 431 ")


def test_the_first_key_is_printed_alone_and_found_in_no_file(gateway: Gateway) -> None:
    assert gateway.key.startswith("mq-")
    found = [
        path for path in gateway.cli.folder.rglob("*") if path.is_file() and gateway.key in path.read_text("latin-1")
    ]
    assert found == []
    (key,) = [each for each in gateway.cli("keys", "list", "--json").json if each["name"] == "default"]
    assert key["scope"] == "admin"


def test_an_open_request_finishes_after_sigterm_and_a_second_start_prints_no_key(
    simulator_process: SimulatorProcess,
) -> None:
    with started_gateway(workers=0, api_base=simulator_process.url) as gateway:
        form = (
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n--x--\r\n'
        )
        head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.key}\r\n"
        head += f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(form)}\r\n\r\n"
        files = gateway.state_dir / "files"
        with socket.create_connection(("127.0.0.1", gateway.port), TIMEOUT_S) as connection:
            connection.sendall(head.encode() + form[:-5])
            wait_until("the upload is open", lambda: files.exists() and any(files.iterdir()))
            gateway.process.terminate()
            wait_until("no connection is accepted", lambda: not is_listening(gateway.port))
            connection.sendall(form[-5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert gateway.process.wait(TIMEOUT_S) == 0

        log = gateway.cli.folder / "second.log"
        with gateway.cli.start("serve", "--port", "0", "--workers", "0", log=log) as second:
            assert second.stdout is not None
            assert second.stdout.readline().startswith("OPENAI_BASE_URL=")
            wait_until("it is ready", lambda: "ready" in log.read_text())
            second.terminate()
            assert second.stdout.read() == ""


def test_a_gateway_whose_workers_cannot_run_exits_with_a_message(simulator_process: SimulatorProcess) -> None:
    with started_gateway(workers=1, api_base=simulator_process.url) as gateway:
        # Handlers have run in threads, which must not keep the process.
        assert call(gateway, "GET", "/readyz").status_code in (200, 503)

        def is_over() -> bool:
            for pid in children(gateway.process.pid, "mira_worker"):
                os.kill(pid, signal.SIGSEGV)
            return gateway.process.poll() is not None

        wait_until("it has given up", is_over)

        assert gateway.process.returncode == 1
        assert "exit code -11" in gateway.log.read_text().splitlines()[-1]


def test_a_simulated_gateway_is_a_complete_service_without_a_key(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mq-")))
        cli = Cli(folder, state_dir=folder / "state", api_key=None)
        process = stack.enter_context(cli.start("serve", "--simulate", "--port", "0", log=tmp_path / "log"))
        stack.callback(process.kill)
        assert process.stdout is not None
        url, key = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
            file = client.files.create(file=("a.jsonl", b'{"prompt": "hello"}\n'), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="1h",  # type: ignore[arg-type]
            )
            wait_until("it has ended", lambda: client.batches.retrieve(batch.id).status == "completed")

        assert is_simulated(batch.id)
        assert [each["id"] for each in cli("batches", "--json").json] == [batch.id]
        assert [each["name"] for each in cli("keys", "list", "--simulated", "--json").json] == ["default"]
        assert cli("keys", "list", "--json").json == []
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        with MiraQueue(simulated(load_settings(state_dir=folder / "state"), SERVE_GROUP)) as queue:
            end_supervisors(queue)


@pytest.mark.parametrize(
    "options",
    [("--name", "../x"), ("--name", "a", "--max-cost-per-day", "much"), ("--name", "a", "--account", "unknown")],
)
def test_a_wrong_option_of_a_key_creates_none(gateway: Gateway, options: tuple[str, ...]) -> None:
    before = gateway.cli("keys", "list", "--json").json

    done = gateway.cli("keys", "create", *options)

    assert (done.code, done.out) == (2, "")
    assert gateway.cli("keys", "list", "--json").json == before


def test_a_port_that_is_taken_is_one_clear_line(gateway: Gateway) -> None:
    done = gateway.cli("serve", "--port", str(gateway.port), "--workers", "0")

    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1
    assert str(gateway.port) in done.err
