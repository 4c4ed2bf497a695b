"""Stage of a run: its own simulator and its own server, which end with it."""

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
POLL_EVERY_S = 0.02
# Keys per poll: few, so that polling costs the server little.
KEYS_PER_POLL = 100
TIMEOUT_S = 600.0


class Stage:
    """Simulator and server of a run. `api` configures the simulator. Processes given to `keep` end with it."""

    def __init__(self, **api: Any) -> None:
        self._closing = ExitStack()
        self.folder = Path(self._closing.enter_context(TemporaryDirectory(prefix="mq-bench-")))
        self.api = self._closing.enter_context(SimulatorProcess.start("--no-request-counts", **api))
        self.server = EmbeddedServer(self.folder / "state")
        self.redis_url = self._closing.enter_context(self.server)
        pid = self.server.running_pid()
        assert pid is not None
        self.server_pid, self.socket = pid, Path(self.redis_url.removeprefix("redis+socket://"))
        self.redis = redis.Redis(unix_socket_path=str(self.socket))
        self._closing.callback(self.redis.close)

    def settings(self, **changes: Any) -> Settings:
        """Return default settings, except for the key, the URLs, and the directory."""
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
        """Start a worker as `mira-queue worker` does, and wait until it is ready."""
        log = self.folder / f"worker-{len(list(self.folder.glob('worker-*.log')))}.log"
        process = self.keep(start_worker(environment_of(settings), log=log))
        wait_until("a worker is ready", lambda: '"ready"' in log.read_text())
        return process

    def keep(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self._closing.callback(stop, process, GRACE)
        return process

    def wait_for_keys(self, keys: Sequence[str]) -> float:
        """Wait until all keys exist. Return the monotonic time in seconds."""
        missing = list(keys)
        end_s = time.monotonic() + TIMEOUT_S
        while missing:
            asked = missing[-KEYS_PER_POLL:]
            with self.redis.pipeline(transaction=False) as pipeline:
                for key in asked:
                    pipeline.exists(key)
                found = pipeline.execute()
            left = [key for key, is_there in zip(asked, found, strict=True) if not is_there]
            missing[-KEYS_PER_POLL:] = left
            if left:
                if time.monotonic() > end_s:
                    raise RuntimeError(f"{len(missing)} results are still missing after {TIMEOUT_S:g} s")
                time.sleep(POLL_EVERY_S)
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
    """Return a request with a short, unique prompt."""
    return {"messages": [{"role": "user", "content": f"Question {number}: what does the tide do?"}]}
