"""A producer that enqueues one job after another. Both systems use it with their own `enqueue`."""

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
from tests.chaos.result_monitor import client_url

# After an error, the same job is enqueued again with the same key, as the client of a web app does.
RETRY_S = 0.2
CHECK_EVERY_JOBS = 20
PAUSE_S = 0.1

Enqueue = Callable[[workload.ChaosJob, int], str]


class NotAccepted(Exception):
    """Raised if the queue did not accept the job, or if that is unknown."""


def produce(enqueue: Enqueue, redis_url: str, queues: Sequence[str], arguments: list[str]) -> None:
    """Enqueue the jobs that are not in the journal.

    `enqueue` gets a job and the number of its account. It returns the job's ID or raises NotAccepted.

    `queues` are the Redis lists that hold the messages.
    """
    options = _parser().parse_args(arguments)
    end_with_driver()
    client = redis.Redis.from_url(client_url(redis_url), socket_timeout=5)
    journal = Journal(options.journal)
    numbers = [number for number in range(options.first, options.end, options.step) if number not in journal.written]
    for count, number in enumerate(numbers):
        if count % CHECK_EVERY_JOBS == 0:
            _wait_for_room(client, queues, options.max_waiting)
        account = workload.single_account(number, options.step, options.accounts)
        journal.append(number, _accepted(enqueue, workload.job(options.seed, number), account))


def _accepted(enqueue: Enqueue, job: workload.ChaosJob, account: int) -> str:
    while True:
        try:
            return enqueue(job, account)
        except NotAccepted as error:
            print(f"job {job.number}: {error}", file=sys.stderr, flush=True)
            time.sleep(RETRY_S)


def _wait_for_room(client: redis.Redis, queues: Sequence[str], most: int) -> None:
    """Limit the backlog. Otherwise all jobs are queued immediately, and every kill happens on the same long queue."""
    while True:
        try:
            if sum(int(client.llen(queue)) for queue in queues) < most:
                return
        except redis.RedisError:
            return
        time.sleep(PAUSE_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("--seed", "--first", "--end", "--step", "--accounts", "--max-waiting"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    return parser
