"""Names that producers and workers share: the task, the queues, and every key of ours in Redis with its TTL.

Each key has one builder below. Its docstring says the type, the owner, and the lifetime.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from enum import Enum

TASK = "mira.run_job"
GROUP_TASK = "mira.run_jobs"
QUEUE = "mira.jobs"
BULK_QUEUE = "mira.bulk"

# TTLs of an account's keys. A job's keys live for MIRA_RESULT_TTL after the job has finished.
ACCOUNT_TTL = timedelta(days=7)  # after its last call or worker
CALL_HISTORY = timedelta(minutes=2)  # calls that the logs keep, and the longest window of a rate limit
KEY_MARGIN = timedelta(minutes=1)  # added to the TTL of keys whose entries expire by themselves
FAULTS_TTL = timedelta(minutes=1)  # faults further apart are not consecutive
TURN = timedelta(milliseconds=500)  # a process that requests no permit for this long after its wait loses its turn
WORKERS_TTL = timedelta(days=1)  # longer than a worker may leave between two reports
WRITE_CHECK_TTL = timedelta(milliseconds=1)


class Lane(Enum):
    """Queue of a job's message, and its priority there (0 is served first).

    A rescued job has waited already, so it goes first. Jobs of a file have their own queue. Workers take from both
    queues in turn: a single job does not wait behind a million lines, nor a file for single jobs that keep coming.
    """

    FIRST = (QUEUE, 0)
    NORMAL = (QUEUE, 3)
    # Not 0, which workers serve first in all queues. From equal priorities they take in turn.
    BULK = (BULK_QUEUE, 3)

    @property
    def queue(self) -> str:
        return self.value[0]

    @property
    def priority(self) -> int:
        return self.value[1]


# Zset, owned by claim and extend. An entry lives while its job runs; the score is the end of the lease.
LEASED = "mira:leased"
# Zset, owned by defer. An entry lives while its job waits; the score is when the job is overdue.
WAITING = "mira:waiting"
# Zset, owned by the workers. An entry lives for ACCOUNT_TTL after the account's last worker; the score is that time.
ACCOUNTS = "mira:accounts"
# Zset, owned by the workers. An entry lives until its worker stops; the score is when it counts as crashed if silent.
WORKERS = "mira:workers"
# Zset, owned by submit. An entry lives as long as its batch; the score is when the batch was created.
BATCHES = "mira:batches"
# Set, owned by submit. An entry lives while a supervisor has to run its batch.
OPEN_BATCHES = "mira:batches:open"
# String, owned by rescue. It lives for WRITE_CHECK_TTL.
WRITE_CHECK = "mira:write-check"


def job_key(job_id: str) -> str:
    """Hash, owned by the job. It lives while the job is open, and then for MIRA_RESULT_TTL."""
    return f"mira:job:{job_id}"


def request_key(job_id: str) -> str:
    """String, owned by the job. It lives while the job is open or failed, and is deleted when the job succeeds."""
    return f"mira:request:{job_id}"


def idempotency_key(key: str) -> str:
    """String, owned by the job. It lives as long as the job.

    It contains a hash, so the name is short and reveals nothing. The name for an empty key is never written.
    """
    return f"mira:key:{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else "mira:key:"


def queued_key(lane: Lane) -> str:
    """Zset, owned by accept, release, rescue and resend. An entry lives while its job is queued.

    The score is when the job's message was sent.
    """
    return f"mira:queued:{lane.name.lower()}"


def messages_key(lane: Lane) -> str:
    """List of Celery's messages, owned by Celery. The separator is the transport's."""
    return f"{lane.queue}\x06\x16{lane.priority}" if lane.priority else lane.queue


def batch_key(batch_id: str) -> str:
    """Hash, owned by the batch. It lives while the batch is open, and then for MIRA_RESULT_TTL."""
    return f"mira:batch:{batch_id}"


def finished_key(group: str) -> str:
    """List, owned by the engine that runs the group. It lives for MIRA_RESULT_TTL after the last entry."""
    return f"mira:finished:{group}"


def result_key(job_id: str) -> str:
    """String, owned by Celery's Redis backend. It lives for MIRA_RESULT_TTL. A channel of this name announces it."""
    return f"celery-task-meta-{job_id}"


def pace_key(account: str) -> str:
    """Hash, owned by the account: circuit breaker, limits, counts. It lives for ACCOUNT_TTL after a call or worker."""
    return f"mira:pace:{account}"


def sent_key(account: str) -> str:
    """Zset, owned by the account: calls that were sent. It lives for CALL_HISTORY or the longest window."""
    return f"mira:sent:{account}"


def tokens_key(account: str) -> str:
    """Zset, owned by the account: tokens that were used. It lives as long as `sent_key`."""
    return f"mira:tokens:{account}"


def in_flight_key(account: str) -> str:
    """Zset, owned by the account: calls in flight, scored by the end of their lease. KEY_MARGIN after a lease."""
    return f"mira:in-flight:{account}"


def turns_key(account: str) -> str:
    """Zset, owned by the account: processes that wait, with the calls granted to each as score. ACCOUNT_TTL."""
    return f"mira:turns:{account}"


def turn_ends_key(account: str) -> str:
    """Zset, owned by the account: processes that wait, scored by when each loses its turn. ACCOUNT_TTL."""
    return f"mira:turn-ends:{account}"


def faults_key(account: str) -> str:
    """Set, owned by the account: jobs that had a fault since the last response. It lives for FAULTS_TTL."""
    return f"mira:faults:{account}"


def wake_channel(account: str, process: str = "") -> str:
    """Return the channel that tells a process to request permits; without a process, the prefix of the channels."""
    return f"mira:wake:{account}:{process}"
