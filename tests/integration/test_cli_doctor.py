"""The doctor: quiet where all is well, and a remedy for everything that is not."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mira_producer.cli.doctor.api import check_api, check_key
from mira_producer.cli.doctor.finding import Finding, Verdict
from mira_producer.cli.doctor.server import check_server

from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from mira_queue.runtime.settings_loader import load_settings
from tests.support.cli_process import Cli
from tests.support.queue_process import API_KEY, WorkerProcess
from tests.support.raw_server import RawServer, Request, always, response
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
NOT_MIRA = "http://api.example/v1"


def test_nothing_is_wrong_where_everything_is_there(
    short_folder: Path, tmp_path: Path, simulator: SimulatorProcess
) -> None:
    own: dict[str, Any] = {"state_dir": short_folder / "doctor", "api_base": simulator.url}
    with WorkerProcess.start(tmp_path, **own) as worker:
        well = Cli(tmp_path, **own)("doctor")
        worker.stop()

    assert (well.code, well.err) == (0, "")
    assert {line.split()[0] for line in well.out.splitlines()} == {"ok"}
    assert "workers: 1 alive" in well.out
    assert API_KEY not in well.out
    assert simulator.stats()["answered"] == 0


def test_everything_that_is_wrong_has_a_remedy(tmp_path: Path, closed_port: int) -> None:
    closed = f"127.0.0.1:{closed_port}"
    done = Cli(tmp_path, redis_url=f"redis://:hush@{closed}/0", api_base=f"http://{closed}/v1", api_key=None)(
        "doctor", "--json", base_url="x"
    )
    findings = {check["check"]: check for check in done.json["checks"]}

    assert (done.code, done.json["ok"]) == (1, False)
    assert {name: check["verdict"] for name, check in findings.items() if check["verdict"] != "ok"} == {
        "unknown settings": "warning",
        "server": "problem",
        "API key": "problem",
        "API": "problem",
    }
    assert "MIRA_BASE_URL" in findings["unknown settings"]["found"]
    assert "MIRA_REDIS_URL" in findings["server"]["fix"]
    assert "MIRA_API_KEY" in findings["API key"]["fix"]
    assert all(check["fix"] for check in findings.values() if check["verdict"] != "ok")
    assert "hush" not in done.out + done.err


def test_each_wrong_or_misspelled_setting_is_a_problem_and_ends_the_checks(tmp_path: Path) -> None:
    done = Cli(tmp_path)("doctor", concurrency=0, lease="soon", redis_url="nonsense", concurency="3")
    wrong = [line for line in done.out.splitlines() if line.startswith("problem")]

    assert done.code == 1
    assert sorted(line.split()[2] for line in wrong) == [
        "MIRA_CONCURENCY:",
        "MIRA_CONCURRENCY:",
        "MIRA_LEASE:",
        "MIRA_REDIS_URL:",
    ]


def test_a_result_backend_out_of_reach_is_a_problem_and_its_password_stays_secret(
    short_folder: Path, tmp_path: Path, closed_port: int
) -> None:
    cli = Cli(tmp_path, state_dir=short_folder / "backend", api_base=f"http://127.0.0.1:{closed_port}/v1")
    done = cli("doctor", "--json", result_backend=f"redis://:hush@127.0.0.1:{closed_port}/0")
    findings = {check["check"]: check for check in done.json["checks"]}

    assert findings["result backend"]["verdict"] == "problem"
    assert findings["workers"]["verdict"] == "warning"
    assert f"redis://:***@127.0.0.1:{closed_port}/0" in findings["result backend"]["found"]
    assert "hush" not in done.out + done.err


def test_a_server_that_does_not_keep_its_data_is_a_problem(short_folder: Path) -> None:
    with EmbeddedServer(short_folder / "forgetful") as url, connect(url) as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "1gb")
        found = {finding.check: finding for finding in check_server(load_settings(redis_url=url), url)}
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        full = {finding.check: finding for finding in check_server(load_settings(redis_url=url), url)}

    keeps, memory = found["server keeps its data"], found["server's memory"]
    assert (keeps.verdict, memory.verdict) == (Verdict.PROBLEM, Verdict.PROBLEM)
    assert "appendonly" in str(keeps.fix)
    assert "noeviction" in str(memory.fix)
    assert full["server's memory"].verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("fsync", "verdict"), [("always", Verdict.OK), ("everysec", Verdict.WARNING), ("no", Verdict.WARNING)]
)
def test_a_server_that_can_lose_acknowledged_writes_is_a_warning(
    short_folder: Path, fsync: str, verdict: Verdict
) -> None:
    with EmbeddedServer(short_folder / fsync) as url, connect(url) as client:
        client.config_set("appendfsync", fsync)
        found = {finding.check: finding for finding in check_server(load_settings(redis_url=url), url)}

    keeps = found["server keeps its data"]
    assert keeps.verdict is verdict
    assert verdict is Verdict.OK or "appendfsync always" in str(keeps.fix)


OTHER_APP = """
from celery import Celery
app = Celery("other", broker="{url}", backend="{url}")
"""


def test_workers_of_another_celery_app_on_the_same_server_do_not_count(short_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(OTHER_APP.format(url=EmbeddedServer(short_folder / "shared").url))
    with EmbeddedServer(short_folder / "shared") as url:
        command = [sys.executable, "-m", "celery", "-A", "other", "worker", "--pool", "solo", "--loglevel", "info"]
        with (tmp_path / "other.log").open("wb") as log:
            other = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            wait_until("it is ready", lambda: b"ready" in (tmp_path / "other.log").read_bytes())
            done = Cli(tmp_path, redis_url=url, api_base=NOT_MIRA)("doctor", "--json")
        finally:
            other.kill()
            other.wait()

    (workers,) = [check for check in done.json["checks"] if check["check"] == "workers"]
    assert workers["verdict"] == "warning"


@pytest.mark.parametrize(
    ("base", "key", "verdict"),
    [
        ("https://api.vmira.ai/v1", API_KEY, Verdict.OK),
        ("https://api.vmira.ai/v1", API_KEY[:-1], Verdict.WARNING),
        (NOT_MIRA, "anything", Verdict.OK),
        (NOT_MIRA, None, Verdict.PROBLEM),
    ],
)
def test_a_key_is_judged_by_its_form_and_never_shown(base: str, key: str | None, verdict: Verdict) -> None:
    (finding,) = check_key(load_settings(api_base=base, api_key=key))

    assert finding.verdict is verdict
    assert key is None or key not in f"{finding.found}{finding.fix}"


def test_the_api_is_asked_without_the_key_and_its_clock_is_compared() -> None:
    with RawServer(always(response(401, b"{}", f"Date: {LONG_AGO}"))) as server:
        findings = checked(server.url)

    assert findings["API"].verdict is Verdict.OK
    assert findings["clocks of API and machine"].verdict is Verdict.WARNING
    (request,) = server.requests
    assert request.line.startswith("POST /v1/chat/completions ")
    assert API_KEY not in str(request)


def test_an_api_in_an_outage_is_a_warning_for_jobs_wait() -> None:
    with RawServer(always(response(503))) as server:
        assert checked(server.url)["API"].verdict is Verdict.WARNING


PAGE = response(200, b"<!doctype html>", "Content-Type: text/html")
ABSENT = response(404, b"not found")


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (response(400, b"{}"), Verdict.OK, "responds within"),
        (response(422, b"{}"), Verdict.OK, "responds within"),
        (response(403, b"Forbidden"), Verdict.WARNING, "403"),
        (ABSENT, Verdict.PROBLEM, "404"),
        (response(405, b""), Verdict.PROBLEM, "405"),
        (PAGE, Verdict.PROBLEM, "web page"),
        (response(200, b"{}", "Content-Type: application/json"), Verdict.PROBLEM, "empty request"),
        (response(308, b"", "Location: https://elsewhere.example/v1"), Verdict.PROBLEM, "elsewhere.example"),
    ],
)
def test_a_wrong_base_is_found_by_what_it_answers(answer: bytes, verdict: Verdict, words: str) -> None:
    with RawServer(always(answer)) as server:
        finding = checked(server.url)["API"]

    assert finding.verdict is verdict
    assert words in finding.found


@pytest.mark.parametrize("path", ["", "/v1/v1", "/v1/responses", "/wrong"])
@pytest.mark.parametrize("absent", [ABSENT, response(403, b"Forbidden")])
def test_the_base_that_was_meant_is_named(path: str, absent: bytes) -> None:
    with RawServer(by_path({"POST /v1/chat/completions": response(401, b"{}")}, absent)) as server:
        base = server.url.removesuffix("/v1")
        finding = checked(f"{base}{path}")["API"]

    assert finding.verdict is Verdict.PROBLEM
    assert f"{base}/v1," in str(finding.fix)


def test_another_api_is_known_by_its_models() -> None:
    models = response(200, b'{"data": []}', "Content-Type: application/json")
    with RawServer(by_path({"GET /v1/models": models}, ABSENT)) as server:
        finding = checked(server.url)["API"]

    assert finding.verdict is Verdict.PROBLEM
    assert "/models" in finding.found


def test_the_environments_proxy_is_used_as_a_worker_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(always(response(401, b"{}", f"Date: {LONG_AGO}"))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:hush@127.0.0.1:{proxy.port}")
        findings = list(check_api(load_settings(api_base="http://api.example.invalid/v1")))

    (request,) = proxy.requests
    assert request.line.startswith("POST http://api.example.invalid/v1/chat/completions ")
    assert request.headers["proxy-authorization"].startswith("Basic ")
    assert "hush" not in str(findings)
    # No TLS to a host of the internet: key and prompts are open.
    assert [finding.verdict for finding in findings] == [Verdict.WARNING, Verdict.OK, Verdict.WARNING]


def test_a_server_without_tls_behind_https_is_a_problem_in_one_line() -> None:
    with RawServer(always(response(200))) as server:
        finding = checked(server.url.replace("http://", "https://"))["API"]

    assert finding.verdict is Verdict.PROBLEM
    assert "TLS" in finding.found
    assert "\n" not in finding.found


def test_a_private_ca_is_named_with_its_variable(tls_server: RawServer) -> None:
    finding = checked(tls_server.url)["API"]

    assert finding.verdict is Verdict.PROBLEM
    assert "certificate" in finding.found
    assert "REQUESTS_CA_BUNDLE" in str(finding.fix)


def test_a_private_ca_of_the_environment_is_used(
    tls_server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.answer = always(response(401, b"{}"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    assert checked(tls_server.url)["API"].verdict is Verdict.OK


def test_a_missing_ca_file_is_a_problem_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/does/not/exist.pem")
    finding = checked("https://api.example.invalid/v1")["API"]

    assert finding.verdict is Verdict.PROBLEM
    assert "SSL_CERT_FILE" in finding.found
    assert "does not exist" in finding.found


def test_a_proxy_that_cannot_be_reached_is_named(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:hush@127.0.0.1:{closed_port}")
    finding = checked("https://api.example.invalid/v1")["API"]

    assert finding.verdict is Verdict.PROBLEM
    assert f"127.0.0.1:{closed_port}" in finding.found
    assert "HTTPS_PROXY" in str(finding.fix)
    assert "hush" not in str(finding)


def checked(base: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_api(load_settings(api_base=base, api_key=API_KEY))}


def by_path(routes: dict[str, bytes], other: bytes) -> Callable[[Request, socket.socket], None]:
    """Answers by method and path."""

    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(routes.get(request.line.rpartition(" ")[0], other))

    return answer
