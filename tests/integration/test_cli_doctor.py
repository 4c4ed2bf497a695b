"""The doctor: quiet where all is well, and a remedy for everything that is not."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mira_producer.cli.doctor.api import check_api, check_key
from mira_producer.cli.doctor.finding import Verdict
from mira_producer.cli.doctor.server import check_server

from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from mira_queue.runtime.settings_loader import load_settings
from tests.support.cli_process import Cli
from tests.support.queue_process import API_KEY, WorkerProcess
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
    with api(status=404, date=LONG_AGO) as (url, heard):
        findings = {finding.check: finding for finding in check_api(load_settings(api_base=url, api_key=API_KEY))}

    assert findings["API"].verdict is Verdict.OK
    assert findings["clocks of API and machine"].verdict is Verdict.WARNING
    ((method, path, headers),) = heard
    assert (method, path) == ("HEAD", "/v1")
    assert "Authorization" not in headers


def test_an_api_in_an_outage_is_a_warning_for_jobs_wait() -> None:
    with api(status=503, date=LONG_AGO) as (url, _):
        findings = {finding.check: finding for finding in check_api(load_settings(api_base=url))}

    assert findings["API"].verdict is Verdict.WARNING


def test_the_environments_proxy_is_used_as_a_worker_would(monkeypatch: pytest.MonkeyPatch) -> None:
    with api(status=200, date=LONG_AGO) as (proxy, heard):
        monkeypatch.setenv("http_proxy", proxy)
        findings = list(check_api(load_settings(api_base="http://api.example.invalid/v1")))

    assert [path for _, path, _ in heard] == ["http://api.example.invalid/v1"]
    # No TLS to a host of the internet: key and prompts are open.
    assert [finding.verdict for finding in findings] == [Verdict.WARNING, Verdict.OK, Verdict.WARNING]


def test_a_server_without_tls_behind_https_is_a_problem_in_one_line() -> None:
    with api(status=200, date=LONG_AGO) as (url, _):
        (finding,) = check_api(load_settings(api_base=url.replace("http://", "https://")))

    assert finding.verdict is Verdict.PROBLEM
    assert "\n" not in finding.found


Heard = list[tuple[str, str, dict[str, Any]]]


@contextmanager
def api(status: int, date: str) -> Iterator[tuple[str, Heard]]:
    """A server that answers every HEAD so, and its base URL and what it heard."""
    heard: Heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            heard.append((self.command, self.path, dict(self.headers)))
            self.send_response_only(status)
            self.send_header("Date", date)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", heard
        finally:
            server.shutdown()
            thread.join()
