"""The life of a producer that enqueues job after job; what "enqueue" means is handed in. Both systems share it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from tests.chaos import workload
from tests.chaos.child import end_with_driver
from tests.chaos.journal import Journal
from tests.chaos.witness import client_url

# After an error the same job is enqueued again, with the same key, as a web app's client would.
AGAIN_S = 0.2
LOOK_EVERY_JOBS = 20
PAUSE_S = 0.1

Enqueue = Callable[[workload.ChaosJob], str]


class NotAccepted(Exception):
    """The queue did not take the job, or it is not known whether it did."""


def produce(enqueue: Enqueue, redis_url: str, queues: Sequence[str], arguments: list[str]) -> None:
    """Enqueue the jobs that are not in the journal yet; `enqueue` returns the job's id or raises NotAccepted.

    `queues` are the Redis lists in which messages wait.
    """
    told = _parser().parse_args(arguments)
    end_with_driver()
    client = redis.Redis.from_url(client_url(redis_url), socket_timeout=5)
    journal = Journal(told.journal)
    numbers = [number for number in range(told.first, told.end, told.step) if number not in journal.written]
    for count, number in enumerate(numbers):
        if count % LOOK_EVERY_JOBS == 0:
            _wait_for_room(client, queues, told.most_waiting)
        journal.append(number, _accepted(enqueue, workload.job(told.seed, number)))


def _accepted(enqueue: Enqueue, job: workload.ChaosJob) -> str:
    while True:
        try:
            return enqueue(job)
        except NotAccepted as error:
            print(f"job {job.number}: {error}", file=sys.stderr, flush=True)
            time.sleep(AGAIN_S)


def _wait_for_room(client: redis.Redis, queues: Sequence[str], most: int) -> None:
    """An open loop would put all jobs in at once, and every later kill would meet the same long queue."""
    while True:
        try:
            if sum(int(client.llen(queue)) for queue in queues) < most:
                return
        except redis.RedisError:
            return
        time.sleep(PAUSE_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("--seed", "--first", "--end", "--step", "--most-waiting"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    return parser
