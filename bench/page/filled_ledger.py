"""A ledger with many open lines and jobs that ended, as the operations of a queue write them."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from mira_queue import MiraQueue
from mira_queue.contract.batch import Batch, BatchStatus, new_batch_id
from mira_queue.contract.errors import BadRequest, ServerError
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.ledger.records import Lease, NewJob, new_job_id

BATCH = 2000
LEASE = timedelta(hours=1)
WAITING = timedelta(hours=6)
MESSAGES = [{"role": "user", "content": "Summarize the order in two sentences."}]
COMPLETION = Completion(
    "The order has three items.", "stop", {"prompt_tokens": 12, "completion_tokens": 8}, {"model": "mira"}, 1, 0, 900
)
# One of ten jobs fails.
FAILURES = (
    Failure.from_error(BadRequest("no such model", 400, attempts=1)),
    Failure.from_error(ServerError("overloaded", 503, attempts=5)),
)
FAILS = 10


def fill(queue: MiraQueue, lines: int, jobs: int, waiting: int, project: str) -> tuple[str, str]:
    """Add open lines of a batch, jobs that ended, and jobs that wait. Return the batch and a failed job."""
    batch_id = _lines(queue, lines)
    failed = _ended(queue, jobs, project)
    request = queue.check({"messages": MESSAGES})
    options = JobOptions(delay=WAITING, metadata={"tenant": "7"})
    queue.accept([NewJob.single(request, options=options, project=project) for _ in range(waiting)])
    return batch_id, failed


def _lines(queue: MiraQueue, count: int) -> str:
    account, request, now_s = queue.accounts.current, queue.check({"messages": MESSAGES}), int(time.time())
    batch_id, group = new_batch_id(), "a-benchmark"
    for start in range(0, count, BATCH):
        jobs = [
            NewJob(request, new_job_id(), f"{group}:{number}", group, Lane.BULK)
            for number in range(start, min(count, start + BATCH))
        ]
        queue.ledger.accept(account.id, jobs, base=account.base)
    batch = Batch(
        batch_id,
        BatchStatus.IN_PROGRESS,
        "orders.jsonl",
        # Its files, and its supervisor, would be there.
        "another-machine:/spool",
        now_s,
        stamps={BatchStatus.IN_PROGRESS: now_s},
        total=count,
        account=account.id,
        group=group,
        updated_at=now_s,
    )
    queue.ledger.add_batch(batch)
    return batch_id


def _ended(queue: MiraQueue, count: int, project: str) -> str:
    account, request = queue.accounts.current, queue.check({"messages": MESSAGES})
    failed = ""
    for start in range(0, count, BATCH):
        jobs = [
            NewJob.single(request, options=JobOptions(metadata={"tenant": str(number % 100)}), project=project)
            for number in range(start, min(count, start + BATCH))
        ]
        ids = [each.id for each in queue.ledger.accept(account.id, jobs, base=account.base)]
        for number, lease in enumerate(queue.ledger.claim_many(account.id, account.base, ids, LEASE)):
            assert isinstance(lease, Lease)
            fails = number % FAILS == 0
            outcome = FAILURES[number // FAILS % len(FAILURES)] if fails else replace(COMPLETION)
            queue.ledger.finish(lease, outcome)
            failed = lease.job_id if fails else failed
    return failed
