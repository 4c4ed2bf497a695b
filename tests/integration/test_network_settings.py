"""Other endpoints from the command line: base, headers, and the network path of the environment, with a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli_process import Cli
from tests.support.queue_process import API_KEY
from tests.support.raw_server import COMPLETION, RawServer, always, response
from tests.support.run_process import ANSWERS, INPUT, RunProcess, prompts, read_lines, run_to_the_end, write_lines
from tests.support.waiting import wait_until

SECRET = "b3" * 16
TLS_BASE = "https://api.example.invalid/v1"


def test_a_run_calls_an_endpoint_of_azures_form(tmp_path: Path, redis_url: str) -> None:
    lines = [{"custom_id": "a", "url": "/chat/completions", "body": {"messages": [{"role": "user", "content": "Hi"}]}}]
    write_lines(tmp_path / INPUT, lines)
    with RawServer(always(response(200, COMPLETION, "Content-Type: application/json"))) as server:
        base = f"{server.url}/chat/completions?api-version=2024-10-21"
        headers = f'{{"X-Secret": "{SECRET}"}}'
        run = run_to_the_end(
            tmp_path, INPUT, redis_url=redis_url, api_base=base, key_header="api-key", headers=headers, concurrency=2
        )

    (request,) = server.requests
    assert run.wait() == 0
    assert [line["custom_id"] for line in read_lines(tmp_path / ANSWERS)] == ["a"]
    assert request.line == "POST /v1/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert (request.headers["api-key"], request.headers["x-secret"]) == (API_KEY, SECRET)
    assert "authorization" not in request.headers
    logs = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.log")]
    assert SECRET not in f"{run.said()}{run.summary()}{logs}"


def test_config_shows_the_names_of_headers_only(tmp_path: Path) -> None:
    done = Cli(tmp_path, headers=f'{{"X-Secret": "{SECRET}"}}')("config")

    assert done.code == 0
    assert "X-Secret" in done.out
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("command", [("run", INPUT), ("worker",)])
def test_a_missing_ca_file_ends_a_command_before_anything_is_sent(
    command: tuple[str, ...], tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / INPUT, prompts(1))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    done = Cli(tmp_path, state_dir=short_folder / "no-ca", api_base=TLS_BASE)(*command)

    assert done.code == 2
    assert "SSL_CERT_FILE" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_run_that_waits_for_an_untrusted_server_shows_why(
    tmp_path: Path, redis_url: str, tls_server: RawServer
) -> None:
    write_lines(tmp_path / INPUT, prompts(20))
    with RunProcess.start(tmp_path, INPUT, redis_url=redis_url, api_base=tls_server.url, concurrency=2) as run:
        status = Cli(tmp_path, redis_url=redis_url, api_base=tls_server.url, state_dir=tmp_path / "state")
        batch_id = run.batch_id()
        # Between two probes, it may wait for something else.
        wait_until("it names the setting", lambda: "REQUESTS_CA_BUNDLE" in status("status", batch_id).out)
        run.interrupt()
        run.wait()

    assert tls_server.requests == []
    assert run.summary()["unanswered_calls"] == 0
