"""`python -m tests.chaos.single`: a producer of mira-queue that enqueues single jobs, as a web app does."""

from __future__ import annotations

import sys
import time

from mira_queue import MiraQueue, QueueUnavailable
from mira_queue.contract.names import Lane, messages_key
from tests.chaos import workload
from tests.chaos.enqueueing import RETRY_S, NotAccepted, produce


def main() -> None:
    with opened() as queue:

        def enqueue(job: workload.ChaosJob) -> str:
            try:
                return queue.enqueue(messages=workload.messages(job.content), key=f"chaos-{job.number}").id
            except QueueUnavailable as error:
                raise NotAccepted(str(error)) from error

        produce(
            enqueue, queue.redis_url, [messages_key(queue.accounts.current.id, lane) for lane in Lane], sys.argv[1:]
        )


def opened() -> MiraQueue:
    """Return the queue as soon as its server is available."""
    while True:
        try:
            return MiraQueue()
        except QueueUnavailable as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
