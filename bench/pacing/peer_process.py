"""One run of a peer: its program with its own simulator."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.pacing import api
from bench.pacing.figures import Run
from bench.pacing.scenarios import Scenario
from tests.support.queue_process import API_KEY, environment


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer. `module` runs with URL, key, and concurrency. `needs` is a package that may not be installed."""

    title: str
    module: str
    needs: str
    is_configured: bool

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None

    def concurrency(self, scenario: Scenario) -> int:
        assert scenario.peers_concurrency is not None
        return scenario.peers_concurrency if self.is_configured else scenario.slots


PEERS = (
    Peer("documented retry loop", "bench.pacing.peers.documented_loop", "requests", is_configured=False),
    Peer("async-batch-llm, configured", "bench.pacing.peers.async_batch", "async_batch_llm", is_configured=True),
)


def run_scenario(scenario: Scenario, peer: Peer, folder: Path) -> Run:
    with api.start(scenario) as simulator, (folder / "peer.log").open("wb") as log:
        arguments = [simulator.url, API_KEY, str(peer.concurrency(scenario))]
        process = subprocess.Popen(
            [sys.executable, "-m", peer.module, *arguments],
            stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment(),
        )  # fmt: skip
        try:
            return api.observe(scenario, simulator, lambda _: None)
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
