"""`python -m tests.chaos.stock.single`: a producer of single tasks. Fixed task IDs make a retry harmless."""

from __future__ import annotations

import sys

from kombu.exceptions import OperationalError
from redis import RedisError

from tests.chaos import workload
from tests.chaos.enqueueing import NotAccepted, produce
from tests.chaos.stock.app import CONFIG, app, chat


def enqueue(job: workload.ChaosJob, _: int) -> str:
    try:
        return str(chat.apply_async(args=[job.content], task_id=f"chaos-{job.number}").id)
    except (OperationalError, RedisError, OSError) as error:
        raise NotAccepted(str(error)) from error


if __name__ == "__main__":
    produce(enqueue, CONFIG["redis_url"], [app.conf.task_default_queue], sys.argv[1:])
