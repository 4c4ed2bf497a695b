"""Faults of the server of the queue. It stays an embedded one: our workers and producers restart it after a SIGKILL."""

from __future__ import annotations

import os
import signal
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.ledger.embedded import EmbeddedServer
from tests.chaos.result_monitor import client_url
from tests.chaos.server_clock import ServerClock

# The driver must not wait for a server that it has stopped.
REPLY_TIMEOUT_S = 2.0
# Above the memory that is used when the limit begins: less than the share that `accept` keeps free.
FREE_BYTES = 64 * 1024


class ServerFaults:
    """Kills, stops, and limits the server of `server`. Each method returns False if that is not possible now."""

    def __init__(self, server: EmbeddedServer, clock: ServerClock | None) -> None:
        self._server = server
        self._clock = clock
        # Without retries: the driver tries again with its next tick.
        self._client = redis.Redis.from_url(
            client_url(server.url), socket_timeout=REPLY_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._stopped_pid: int | None = None
        self._wake_at_s = 0.0
        self._unlimit_at_s: float | None = None

    @property
    def is_stopped(self) -> bool:
        return self._stopped_pid is not None

    @property
    def is_up(self) -> bool:
        return self._pid() is not None

    def kill(self) -> bool:
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid is not None

    def stop(self, for_s: float) -> bool:
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
            self._stopped_pid, self._wake_at_s = pid, time.monotonic() + for_s
        return pid is not None

    def kill_clients(self) -> bool:
        """Close every connection except ours."""
        return self._run(["CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub SKIPME yes"])

    def flush_scripts(self) -> bool:
        return self._run(["SCRIPT FLUSH"])

    def limit_memory(self, for_s: float) -> bool:
        """Set a limit just above what is used. Reads and deletions still work, and little else."""
        try:
            used = int(self._client.info("memory")["used_memory"])
        except redis.RedisError:
            return False
        done = self._run([f"CONFIG SET maxmemory {used + FREE_BYTES}"])
        if done:
            self._unlimit_at_s = time.monotonic() + for_s
        return done

    def jump_clock(self, pick: float) -> bool:
        if self._clock is not None:
            self._clock.jump(pick)
        return self._clock is not None

    @property
    def wakes(self) -> bool:
        """Return True if a stopped server is due to continue."""
        return self.is_stopped and time.monotonic() >= self._wake_at_s

    def wake(self) -> None:
        if self._stopped_pid is not None:
            os.kill(self._stopped_pid, signal.SIGCONT)
            self._stopped_pid = None

    def tend(self) -> None:
        """Remove a limit whose time has passed. A server that was killed meanwhile has none."""
        if self._unlimit_at_s is None or self.is_stopped or time.monotonic() < self._unlimit_at_s:
            return
        if self._run(["CONFIG SET maxmemory 0"]):
            self._unlimit_at_s = None

    def end(self) -> None:
        """Let a stopped server continue, and close the connection."""
        self.wake()
        self._client.close()

    def _pid(self) -> int | None:
        return None if self.is_stopped else self._server.running_pid()

    def _run(self, commands: list[str]) -> bool:
        if self.is_stopped:
            return False
        try:
            for command in commands:
                self._client.execute_command(*command.split())  # type: ignore[no-untyped-call]
        except redis.RedisError:
            return False
        return True
