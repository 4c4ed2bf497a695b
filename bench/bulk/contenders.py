"""Competitors that run the same jobs: how to start each worker, and how to enqueue its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.bulk.stage import KEY, Stage, body
from mira_queue import MiraQueue
from mira_queue.contract.names import Lane, result_key
from mira_queue.ledger.records import NewJob, new_job_id
from tests.support.waiting import wait_until


class Competitor(Protocol):
    """A queue on one stage, with its workers ready."""

    @property
    def pids(self) -> Sequence[int]:
        """Return the PIDs of the workers. They may have child processes."""

    def enqueue(self, count: int) -> Sequence[str]:
        """Enqueue `count` jobs. Return the Redis keys of their results."""


class Ours:
    """mira-queue with jobs of a file (bulk lane) and default settings, except for the slots."""

    def __init__(self, stage: Stage, slots: int, processes: int = 1) -> None:
        settings = stage.settings(concurrency=slots)
        self._queue: MiraQueue = stage.queue(settings)
        self.pids = [stage.worker(settings).pid for _ in range(processes)]

    def enqueue(self, count: int) -> Sequence[str]:
        jobs = [NewJob(self._queue.check(body(n)), new_job_id(), group="bench", lane=Lane.BULK) for n in range(count)]
        return [result_key(job.id) for job in self._queue.accept(jobs)]


class Peer:
    """A peer: a program that may run in its own environment."""

    def __init__(
        self, stage: Stage, python: Path, module: str, worker: Sequence[str], ready: str, session: bool = False
    ) -> None:
        self._command = [os.fspath(python), "-m", f"bench.bulk.peers.{module}_enqueue"]
        url = stage.redis_url.replace("redis+socket://", "unix://") if module == "taskiq" else stage.redis_url
        self._env = {**os.environ, "PEER_REDIS_URL": url, "PEER_API_BASE": stage.api.url, "PEER_API_KEY": KEY}
        if session:
            self._env["PEER_SESSION"] = "1"
        log = stage.folder / "peer.log"
        with log.open("wb") as output:
            process = subprocess.Popen([os.fspath(python), "-m", *worker], env=self._env, stdout=output, stderr=output)
        stage.keep(process)
        wait_until(f"{module}'s worker is ready", lambda: ready in log.read_text())
        self.pids = [process.pid]

    def enqueue(self, count: int) -> Sequence[str]:
        done = subprocess.run([*self._command, str(count)], env=self._env, check=True, capture_output=True, text=True)
        return list(json.loads(done.stdout)["keys"])


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    start: Callable[[Stage], Competitor]


def ours(slots: int, processes: int = 1) -> Contender:
    name = f"ours, {processes} process{'es' if processes > 1 else ''}, {slots} slots"
    return Contender(name, partial(Ours, slots=slots, processes=processes))


def taskiq(python: Path, tasks: int) -> Contender:
    worker = [
        "taskiq", "worker", "bench.bulk.peers.taskiq_app:broker", "--workers", "1", "--max-async-tasks", str(tasks),
    ]  # fmt: skip
    start = partial(Peer, python=python, module="taskiq", worker=worker, ready="Listening started.")
    return Contender(f"taskiq, 1 process, {tasks} tasks", start)


def stock(pool: str, slots: int, session: bool = False) -> Contender:
    worker = [
        "celery", "-A", "bench.bulk.peers.stock_app", "worker", "--pool", pool, "--concurrency", str(slots),
        "--loglevel", "INFO",
    ]  # fmt: skip
    start = partial(Peer, python=Path(sys.executable), module="stock", worker=worker, ready=" ready.", session=session)
    return Contender(f"stock Celery, {pool}, {slots} slots{', a session' if session else ''}", start)
