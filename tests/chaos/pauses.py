"""Pauses of batches with the real command. After it has returned, and one second more, no call of the batch starts."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.contract import names
from tests.chaos.child import Child, clean_environment, module
from tests.chaos.result_monitor import client_url

POLL_S = 0.05
RETRY_S = 0.5
REPLY_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 60.0
# `resume` may fail for some seconds while the server is down or the supervisor starts.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Time in which a batch was paused, in monotonic seconds: from the exit of `pause` to the start of `resume`."""

    batch: int
    begins_s: float
    ends_s: float


class Pauses:
    """Pauses one batch at a time, in a thread of its own. `done` are the acknowledged pauses."""

    def __init__(self, url: str, env: Mapping[str, str], folder: Path, record: Callable[[str], None]) -> None:
        self._client = redis.Redis.from_url(
            client_url(url), socket_timeout=REPLY_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._env = {**clean_environment(), **env}
        self._folder = folder
        self._record = record
        self._thread: threading.Thread | None = None
        #: `pause` has not returned yet.
        self.is_commanding = False
        self.done: list[Pause] = []

    def begin(self, number: int, child: Child, for_s: float) -> bool:
        """Begin to pause batch `number`, whose process is `child`. Return False if it is not in progress.

        Also return False while another batch is paused.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        name = f"batch-{number}.jsonl"
        batch = next((each for each in self._batches() if each["input_name"] == name and _runs(each)), None)
        if batch is None:
            return False
        self._thread = threading.Thread(
            target=self._pause, args=(batch["id"], number, child, for_s), name="pause", daemon=True
        )
        self.is_commanding = True
        self._thread.start()
        return True

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._client.close()

    def _pause(self, batch_id: str, number: int, child: Child, for_s: float) -> None:
        is_run = child.name.startswith("batch")
        process_began_s = child.began_s
        code = self._command("pause", batch_id)
        self.is_commanding = False
        begins_s = time.monotonic()
        ends_s = begins_s + for_s
        while (now_s := time.monotonic()) < ends_s:
            if is_run and child.began_s != process_began_s:
                # The user ran the command again, which resumes the run.
                now_s = child.began_s
                break
            time.sleep(POLL_S)
        if code == 0:
            self.done.append(Pause(number, begins_s, now_s))
            self._record(f"batch {number} was paused for {now_s - begins_s:.1f} s")
        self._resume(batch_id)

    def _resume(self, batch_id: str) -> None:
        """Repeat the command until it is accepted, or the batch needs none."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s and self._command("resume", batch_id) != 0:
            batch = next((each for each in self._batches() if each["id"] == batch_id), None)
            if batch is not None and _needs_no_resume(batch):
                return
            time.sleep(RETRY_S)

    def _batches(self) -> list[dict[str, Any]]:
        try:
            ids: Any = self._client.zrevrange(names.BATCHES, 0, -1)
            found: Any = [self._client.hmget(names.batch_key(each.decode()), "batch", "command") for each in ids]
        except redis.RedisError:
            return []
        return [orjson.loads(batch) | {"command": command} for batch, command in found if batch is not None]

    def _command(self, word: str, batch_id: str) -> int:
        command = module("mira_producer.cli", word, batch_id)
        try:
            done = subprocess.run(
                command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(command, -1, "", "no exit")
        self._record(f"{word} {batch_id}: exit code {done.returncode} {done.stderr.strip()[:200]}")
        return done.returncode


def _runs(batch: Mapping[str, Any]) -> bool:
    return batch["status"] == "in_progress" and not batch["paused"] and bool(batch["group"])


def _needs_no_resume(batch: Mapping[str, Any]) -> bool:
    if batch["status"] not in ("validating", "in_progress", "finalizing"):
        return True
    # The process of an interrupted run has exited: the driver runs its command again.
    return batch["command"] is None and (not batch["paused"] or batch["paused_by"] == "interrupt")
