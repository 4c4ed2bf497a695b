"""A ledger with many open lines and jobs that ended. The lines are copies of one that was accepted."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import redis

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.batch import Batch, BatchStatus, new_batch_id
from mira_queue.contract.errors import BadRequest, ServerError
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.ledger.connection import connect
from mira_queue.ledger.records import Lease, NewJob, new_job_id

BATCH = 2000
# KEYS  job hash, request, queued zset   ARGV  the job, the prefixes of the first two keys, and the new jobs
_COPY = """
local score = redis.call('ZSCORE', KEYS[3], ARGV[1])
for place = 4, #ARGV do
  redis.call('COPY', KEYS[1], ARGV[2] .. ARGV[place])
  redis.call('COPY', KEYS[2], ARGV[3] .. ARGV[place])
  redis.call('ZADD', KEYS[3], score, ARGV[place])
end
"""
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
    first = NewJob(request, new_job_id(), f"{group}:0", group, Lane.BULK)
    queue.ledger.accept(account.id, [first], base=account.base)
    with connect(queue.redis_url) as client:
        _copy(client, account.id, first.id, count - 1)
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


def _copy(client: redis.Redis, account: str, job_id: str, count: int) -> None:
    """Add copies of an open line. A million of them are accepted in minutes, and copied in seconds."""
    queued = names.queued_key(account, Lane.BULK)
    keys = [names.job_key(job_id), names.request_key(job_id), queued]
    prefixes = names.job_key(""), names.request_key("")
    for start in range(0, count, BATCH):
        ids = [new_job_id() for _ in range(start, min(count, start + BATCH))]
        client.eval(_COPY, len(keys), *keys, job_id, *prefixes, *ids)


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
