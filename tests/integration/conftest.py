"""Fixtures that several of these modules share."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from mira_queue import MiraQueue
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from tests.support.batch_steps import end_supervisors
from tests.support.calls import OK
from tests.support.embedded_process import end_server
from tests.support.gateway_process import Gateway
from tests.support.ledger_steps import LIFE
from tests.support.queue_process import WorkerProcess
from tests.support.raw_server import RawServer, always
from tests.support.simulator_process import SimulatorProcess


@pytest.fixture
def target(worker: WorkerProcess, redis_url: str, simulator: SimulatorProcess) -> dict[str, Any]:
    """Settings of a run whose lines the module's worker answers."""
    return {"redis_url": redis_url, "api_base": simulator.url}


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    """The ledger on the session's server."""
    with connect(redis_url) as client:
        yield Ledger(client, result_ttl=LIFE)


@pytest.fixture
def batches(queue: MiraQueue) -> Iterator[MiraQueue]:
    """The client. Its supervisors end with the test."""
    yield queue
    end_supervisors(queue)


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """The state directory of an embedded server, which ends with the test."""
    path = tmp_path / "state"
    yield path
    end_server(path)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, with its key, that no machine trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run([*command, *names], check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with RawServer(always(OK), context) as server:
        yield server


@pytest.fixture(scope="module")
def openai_client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """The official SDK on the module's gateway, with its first key."""
    with gateway.client() as client:
        yield client
