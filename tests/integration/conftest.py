"""What several of these modules start from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.queue_process import WorkerProcess
from tests.support.simulator_process import SimulatorProcess


@pytest.fixture
def target(worker: WorkerProcess, redis_url: str, simulator: SimulatorProcess) -> dict[str, Any]:
    """Settings of a run whose lines the module's worker answers."""
    return {"redis_url": redis_url, "api_base": simulator.url}
