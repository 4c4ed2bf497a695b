"""`python -m tests.chaos.single`: a producer of mira-queue that enqueues single jobs, as a web app does."""

from __future__ import annotations

import sys
import time

from mira_queue import MiraQueue, QueueUnavailable
from mira_queue.contract.names import Lane, messages_key
from tests.chaos import workload
from tests.chaos.enqueueing import RETRY_S, NotAccepted, produce
from tests.chaos.system import SECOND_ACCOUNT


def main() -> None:
    with opened() as queue:

        def enqueue(job: workload.ChaosJob, account: int) -> str:
            name = SECOND_ACCOUNT if account else None
            try:
                messages = workload.messages(job.content)
                return queue.enqueue(messages=messages, key=f"chaos-{job.number}", account=name).id
            except QueueUnavailable as error:
                raise NotAccepted(str(error)) from error

        queues = [messages_key(account.id, lane) for account in queue.accounts for lane in Lane]
        produce(enqueue, queue.redis_url, queues, sys.argv[1:])


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
