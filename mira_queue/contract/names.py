"""Names that both sides must spell alike: the task, the queue, and every key of ours in Redis.

| key                 | type   | owner              | lives                                                    |
| ------------------- | ------ | ------------------ | -------------------------------------------------------- |
| mira:job:ID         | hash   | the job            | while open; then MIRA_RESULT_TTL                         |
| mira:request:ID     | string | the job            | while open or failed (for retry); gone when it succeeded |
| mira:key:HASH       | string | the job            | as the job: its idempotency key                          |
| mira:queued:LANE    | zset   | accept, resend     | an entry while the job is queued; score: when it was sent |
| mira:leased         | zset   | claim, extend      | an entry while the job runs; score: the lease's end      |
| mira:waiting        | zset   | defer              | an entry while the job waits; score: when it is overdue  |
| mira:finished:GROUP | list   | a run's collector  | MIRA_RESULT_TTL after the last entry, or until dropped   |
| mira:pace:ACCOUNT   | hash   | the account        | a week after its last call or worker: gate, limits, counts |
| mira:accounts       | zset   | workers            | an entry a week after its last worker; score: that time |
| mira:sent:ACCOUNT   | zset   | the account        | as long as its limits look back, and a minute: calls made |
| mira:tokens:ACCOUNT | zset   | the account        | likewise: tokens used                                    |
| mira:in-flight:ACCOUNT | zset   | the account        | likewise: calls in flight; score: the end of their lease |
| mira:turns:ACCOUNT  | zset   | the account        | likewise: processes that wait; score: since when         |
| mira:turn-ends:ACCOUNT | zset | the account       | likewise; score: when a process counts as gone           |
| mira:faults:ACCOUNT | set    | the account        | a minute: jobs that met a fault, since the last answer   |
| mira:batch:ID       | hash   | the batch          | while open; then MIRA_RESULT_TTL                         |
| mira:batches        | zset   | submit             | an entry as long as its batch; score: when it was created |
| mira:write-check    | string | rescue             | a millisecond                                            |
| celery-task-meta-ID | string | Celery's backend   | MIRA_RESULT_TTL                                          |
"""

from __future__ import annotations

import hashlib
from enum import Enum

TASK = "mira.run_job"
GROUP_TASK = "mira.run_jobs"
QUEUE = "mira.jobs"
BULK_QUEUE = "mira.bulk"


class Lane(Enum):
    """Where a job's message goes: Celery's queue, and its priority there (0 is served first).

    A rescued job has waited its turn already: it must not go behind all that came since. Jobs of a file have a queue of
    their own: workers look into both in turn, so that neither a single job waits behind a million lines nor the file
    for single jobs that keep coming.
    """

    FIRST = (QUEUE, 0)
    NORMAL = (QUEUE, 3)
    # Not 0, which workers serve first in all queues: of equals they take one of each in turn.
    BULK = (BULK_QUEUE, 3)

    @property
    def queue(self) -> str:
        return self.value[0]

    @property
    def priority(self) -> int:
        return self.value[1]


LEASED = "mira:leased"
WRITE_CHECK = "mira:write-check"
BATCHES = "mira:batches"
WAITING = "mira:waiting"
ACCOUNTS = "mira:accounts"


def job_key(job_id: str) -> str:
    return f"mira:job:{job_id}"


def request_key(job_id: str) -> str:
    return f"mira:request:{job_id}"


def idempotency_key(key: str) -> str:
    """Hashed: whatever the caller's key holds, the name stays short and says nothing. No key: a name never written."""
    return f"mira:key:{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else "mira:key:"


def queued_key(lane: Lane) -> str:
    return f"mira:queued:{lane.name.lower()}"


def messages_key(lane: Lane) -> str:
    """Celery's own list of messages; the separator is the transport's."""
    return f"{lane.queue}\x06\x16{lane.priority}" if lane.priority else lane.queue


def batch_key(batch_id: str) -> str:
    return f"mira:batch:{batch_id}"


def finished_key(group: str) -> str:
    return f"mira:finished:{group}"


def result_key(job_id: str) -> str:
    """Where Celery's Redis backend looks for a result; also the channel on which it is announced."""
    return f"celery-task-meta-{job_id}"


def pace_key(account: str) -> str:
    return f"mira:pace:{account}"


def sent_key(account: str) -> str:
    return f"mira:sent:{account}"


def tokens_key(account: str) -> str:
    return f"mira:tokens:{account}"


def in_flight_key(account: str) -> str:
    return f"mira:in-flight:{account}"


def turns_key(account: str) -> str:
    return f"mira:turns:{account}"


def turn_ends_key(account: str) -> str:
    return f"mira:turn-ends:{account}"


def faults_key(account: str) -> str:
    return f"mira:faults:{account}"


def wake_channel(account: str, process: str = "") -> str:
    """The channel on which a process hears that it may go; without a process, what all of an account's begin with."""
    return f"mira:wake:{account}:{process}"


def account_name(api_base: str, api_key: str) -> str:
    """An account is a base URL and a key; its name lets nobody guess the key (which has 160 random bits)."""
    return hashlib.sha256(f"{api_base}\0{api_key}".encode()).hexdigest()[:16]
