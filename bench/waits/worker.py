"""Process that finishes jobs, in place of a worker."""

from __future__ import annotations

import time
from datetime import timedelta
from multiprocessing.connection import Connection

from mira_queue import MiraQueue
from mira_queue.contract.outcome import Completion
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease, NewJob, new_job_id
from tests.support.queue_process import API_KEY

ACCOUNT = "bench"
PAUSE_S = 0.001
LIFE = timedelta(hours=1)
ANSWER = "word " * 100


def work(url: str, jobs: int, answer_s: float, pipe: Connection) -> None:
    """Accept and claim jobs. When told so, finish them after `answer_s`, and send when that was."""
    with connect(url) as client, MiraQueue(redis_url=url, api_key=API_KEY) as queue:
        ledger = Ledger(client, result_ttl=LIFE)
        new = [
            NewJob(queue.check({"messages": [{"role": "user", "content": "Hello"}]}), new_job_id()) for _ in range(jobs)
        ]
        job_ids = [job.id for job in ledger.accept(ACCOUNT, new)]
        leases = ledger.claim_many(ACCOUNT, ledger.pace_view(ACCOUNT).base, job_ids, LIFE)
        pipe.send(job_ids)
        finish_at_s = pipe.recv() + answer_s
        finished_s = []
        body = {"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}
        for lease in leases:
            time.sleep(max(0.0, finish_at_s - time.monotonic()))
            finish_at_s += PAUSE_S
            finished_s.append(time.monotonic())
            assert isinstance(lease, Lease)
            assert ledger.finish(lease, Completion(ANSWER, "stop", {"total_tokens": 100}, body, attempts=1))
        pipe.send(finished_s)
