"""Servers as users have them: a cluster, users with few permissions, TLS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mira_queue.contract import names
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.permissions import acl_rules
from mira_queue.ledger.connection import connect
from mira_queue.ledger.server_check import forbidden
from tests.support.certificates import Certificates, needs_openssl
from tests.support.cli_process import Cli
from tests.support.queue_process import OWN_COMMAND, WorkerProcess
from tests.support.redis_pair import HOST, PortServer, free_port
from tests.support.simulator_process import SimulatorProcess

DEBIAN = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(DEBIAN is None, reason="redis-server is not installed")
PASSWORD = "hush-9c1"
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "mira", "messages": [{"role": "user", "content": "line"}]},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PortServer]:
    with PortServer(tmp_path / "server", DEBIAN) as server:
        yield server


def set_user(server: PortServer, rules: str) -> str:
    """Create a user with exactly these rules. Return the URL with its password."""
    words = ("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", *rules.split())
    server.client.execute_command(*words)  # type: ignore[no-untyped-call]
    return f"redis://app:{PASSWORD}@{HOST}:{server.port}/0"


@needs_redis
def test_a_cluster_is_rejected_immediately_by_commands_workers_and_doctor(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(LINE) + "\n")
    with PortServer(tmp_path / "server", DEBIAN, cluster_enabled="yes") as server:
        cli = Cli(tmp_path, redis_url=server.url)
        commands = [("run", "in.jsonl"), ("worker",)]
        ended = [cli(*command) for command in commands]
        worker = WorkerProcess.start(tmp_path, OWN_COMMAND, wait=False, redis_url=server.url)
        code = worker.wait()
        doctor = cli("doctor", "--json")

    assert [done.code for done in ended] == [1, 1]
    assert all("cluster" in done.err for done in ended)
    assert code == 1
    assert "cluster" in worker.log()
    (found,) = [check["found"] for check in doctor.json["checks"] if check["check"] == "server"]
    assert "cluster" in found


@needs_redis
def test_a_user_with_exactly_the_documented_rules_can_do_everything(
    server: PortServer, tmp_path: Path, simulator: SimulatorProcess
) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(LINE) + "\n")
    target: dict[str, Any] = {"redis_url": set_user(server, acl_rules()), "api_base": simulator.url}
    cli = Cli(tmp_path, **target)
    with WorkerProcess.start(tmp_path, **target) as worker:
        ended = [
            cli("enqueue", "--wait", "hello"),
            cli("run", "in.jsonl"),
            cli("submit", "in.jsonl"),
            cli("batches"),
            cli("doctor"),
        ]
        worker.stop()
        restarts = worker.log().count("Connection to broker lost")
    denied = {entry["object"] for entry in server.client.acl_log()}

    assert [done.code for done in ended] == [0, 0, 0, 0, 0]
    assert restarts == 0
    # doctor skips what it may not see.
    assert denied <= {"config|get"}


@needs_redis
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("resetchannels", "PUBLISH"),
        ("resetkeys ~mira:*", "_kombu"),
        ("-brpop", "BRPOP"),
        ("-multi", "MULTI"),
    ],
)
def test_whatever_a_user_lacks_is_named(server: PortServer, change: str, named: str) -> None:
    with connect(set_user(server, f"{acl_rules()} {change}")) as client:
        refused = forbidden(client, 0)

    assert any(named in command for command in refused)
    # Nothing was executed. The key is written by each connection.
    assert set(server.client.keys()) <= {names.SCHEMA_KEY.encode()}


@needs_redis
def test_a_worker_without_channels_exits_and_shows_the_rules_as_doctor_does(server: PortServer, tmp_path: Path) -> None:
    url = set_user(server, f"{acl_rules()} resetchannels")
    worker = WorkerProcess.start(tmp_path, wait=False, redis_url=url)
    code = worker.wait()
    doctor = Cli(tmp_path, redis_url=url)("doctor", "--json")

    assert code == 1
    assert f"ACL SETUSER app {acl_rules()}" in worker.log()
    (finding,) = [check for check in doctor.json["checks"] if check["check"] == "server's permissions"]
    assert (finding["verdict"], "PUBLISH" in finding["found"]) == ("problem", True)
    assert f"ACL SETUSER app {acl_rules()}" in finding["fix"]
    assert PASSWORD not in worker.log() + doctor.out + doctor.err


@needs_redis
def test_a_script_that_may_not_run_a_command_names_the_rules(server: PortServer, tmp_path: Path) -> None:
    done = Cli(tmp_path, redis_url=set_user(server, f"{acl_rules()} -hset"))("enqueue", "hello")

    assert done.code == 1
    assert "ACL SETUSER" in done.err


@needs_redis
@needs_openssl
@pytest.mark.parametrize("query", ["ssl_ca_certs={ca}", "ssl_cert_reqs=CERT_NONE"])
def test_jobs_run_over_tls(tmp_path: Path, simulator: SimulatorProcess, query: str) -> None:
    made = Certificates(tmp_path / "tls")
    port = free_port()
    options: dict[str, Any] = {
        "tls_port": str(port),
        "tls_cert_file": str(made.certificate),
        "tls_key_file": str(made.key),
        "tls_ca_cert_file": str(made.ca),
        "tls_auth_clients": "no",
    }
    with PortServer(tmp_path / "server", DEBIAN, **options):
        url = f"rediss://{HOST}:{port}/0"
        target: dict[str, Any] = {"redis_url": f"{url}?{query.format(ca=made.ca)}", "api_base": simulator.url}
        with WorkerProcess.start(tmp_path, **target) as worker:
            done = Cli(tmp_path, **target)("enqueue", "--wait", "hello")
            worker.stop()
        with connect(url, timedelta(0)) as client, pytest.raises(QueueUnavailable, match="certificate"):
            client.ping()

    assert (done.code, "hello" in done.out) == (0, True)
