"""Where a run takes place: a simulator and a server of its own, both gone at its end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import redis
from mira_producer.processes import environment_of, start_worker, stop

from mira_queue import MiraQueue
from mira_queue.contract.settings import Settings
from mira_queue.ledger.embedded import EmbeddedServer
from mira_queue.runtime.settings_loader import load_settings
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

KEY = "sk-mira-" + "0" * 40
GRACE = timedelta(seconds=10)
LOOK_EVERY_S = 0.02
# Keys that are asked for at once: little for the server, which has other things to do.
ASKED_AT_ONCE = 100
PATIENCE_S = 600.0


class Stage:
    """`api`: the simulator's configuration; what is started with `keep` is stopped at the end, last first."""

    def __init__(self, **api: Any) -> None:
        self._closing = ExitStack()
        self.folder = Path(self._closing.enter_context(TemporaryDirectory(prefix="mq-bench-")))
        self.api = self._closing.enter_context(SimulatorProcess.start("--no-request-counts", **api))
        self.server = EmbeddedServer(self.folder / "state")
        self.redis_url = self._closing.enter_context(self.server)
        status = self.server.status()
        assert status is not None
        self.server_pid, self.socket = status.pid, status.socket
        self.redis = redis.Redis(unix_socket_path=str(self.socket))
        self._closing.callback(self.redis.close)

    def settings(self, **changes: Any) -> Settings:
        """A user's who sets nothing but where things are; the worker's log goes to a file, as a service's does."""
        return load_settings(
            api_key=KEY,
            api_base=self.api.url,
            redis_url=self.redis_url,
            state_dir=self.folder / "own",
            **changes,
        )

    def queue(self, settings: Settings) -> MiraQueue:
        return self._closing.enter_context(MiraQueue(settings))

    def worker(self, settings: Settings) -> subprocess.Popen[bytes]:
        """One of ours, as `mira-queue worker` starts it, ready."""
        log = self.folder / f"worker-{len(list(self.folder.glob('worker-*.log')))}.log"
        process = self.keep(start_worker(environment_of(settings), log=log))
        wait_until("a worker is ready", lambda: '"ready"' in log.read_text())
        return process

    def keep(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self._closing.callback(stop, process, GRACE)
        return process

    def wait_for_keys(self, keys: Sequence[str]) -> float:
        """When the last of these keys was there, monotonic seconds: results, whoever stored them."""
        missing = list(keys)
        end_s = time.monotonic() + PATIENCE_S
        while missing:
            asked = missing[-ASKED_AT_ONCE:]
            with self.redis.pipeline(transaction=False) as pipeline:
                for key in asked:
                    pipeline.exists(key)
                found = pipeline.execute()
            left = [key for key, is_there in zip(asked, found, strict=True) if not is_there]
            missing[-ASKED_AT_ONCE:] = left
            if left:
                if time.monotonic() > end_s:
                    raise RuntimeError(f"{len(missing)} results are still missing after {PATIENCE_S:g} s")
                time.sleep(LOOK_EVERY_S)
        return time.monotonic()

    def memory_bytes(self) -> int:
        return int(self.redis.info("memory")["used_memory"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()


def body(number: int) -> dict[str, Any]:
    """A request with a short prompt; no two are alike."""
    return {"messages": [{"role": "user", "content": f"Question {number}: what does the tide do?"}]}
