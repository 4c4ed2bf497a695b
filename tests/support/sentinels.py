"""Sentinels of Debian's redis-sentinel, which watch one master and promote its replica."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.redis_pair import HOST, PortServer, free_port
from tests.support.waiting import wait_until

SERVICE = "mira-master"
BINARY = shutil.which("redis-sentinel")
# Time without a response after which a Sentinel takes the master for dead.
DOWN_AFTER_MS = 1000

needs_sentinel = pytest.mark.skipif(BINARY is None, reason="redis-sentinel is not installed")


class Sentinels:
    """A master, its replica, and three Sentinels. As a context manager, all are killed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._ports = [free_port() for _ in range(3)]
        self.master = PortServer(folder / "master")
        self.replica = PortServer(folder / "replica")

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{port}" for port in self._ports)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def master_port(self) -> int:
        """Return the port that the first Sentinel names, or 0 if it does not respond yet."""
        with (
            suppress(redis.RedisError),
            redis.Redis(HOST, self._ports[0], decode_responses=True, retry=Retry(NoBackoff(), 0)) as sentinel,
        ):
            state = sentinel.sentinel_master(SERVICE)
            ready = state["num-other-sentinels"] == len(self._ports) - 1 and state["num-slaves"] >= 1
            return int(state["port"]) if ready else 0
        return 0

    def fail_over(self) -> None:
        """Kill the master, and wait until the Sentinels have promoted the replica."""
        self.master.kill()
        wait_until("the replica is the master", lambda: self.master_port() == self.replica.port)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in (self.master, self.replica):
                stack.enter_context(server)
            self.replica.follow(self.master)
            for number, port in enumerate(self._ports):
                self._start(stack, number, port)
            self._stack = stack.pop_all()
        wait_until("the Sentinels know each other", lambda: self.master_port() == self.master.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack, number: int, port: int) -> None:
        config = self._folder / f"sentinel-{number}.conf"
        config.write_text(
            f"port {port}\nbind {HOST}\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} {HOST} {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        assert BINARY is not None
        log = stack.enter_context((self._folder / f"sentinel-{number}.log").open("wb"))
        process = subprocess.Popen([BINARY, str(config)], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
