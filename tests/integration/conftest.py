"""Fixtures that several of these modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mira_queue import MiraQueue
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from tests.support.batch_steps import end_supervisors
from tests.support.embedded_process import end_server
from tests.support.ledger_steps import LIFE
from tests.support.queue_process import WorkerProcess
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
