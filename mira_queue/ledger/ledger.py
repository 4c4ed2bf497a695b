"""Durable record of every job: one method for each atomic operation.

Every operation may be repeated after a lost response, and does its work once. This makes it safe to retry connections.
A lease has an epoch, and an operation with an old epoch changes nothing.
"""

from __future__ import annotations

from mira_queue.ledger.account_details import AccountDetailsReader
from mira_queue.ledger.accounts import Accounts
from mira_queue.ledger.activity import Activities
from mira_queue.ledger.api_keys import ApiKeys
from mira_queue.ledger.batches import Batches
from mira_queue.ledger.chunks import Chunks
from mira_queue.ledger.clock import Clock
from mira_queue.ledger.http_requests import HttpRequests
from mira_queue.ledger.job_actions import JobActions
from mira_queue.ledger.job_details import JobDetailsReader
from mira_queue.ledger.jobs import Jobs
from mira_queue.ledger.leases import Leases
from mira_queue.ledger.listed_jobs import ListedJobs
from mira_queue.ledger.pace import Pacing
from mira_queue.ledger.project_usage import ProjectUsages
from mira_queue.ledger.queue_stats import QueueStatsReader
from mira_queue.ledger.rescue import Rescue
from mira_queue.ledger.timelines import Timelines
from mira_queue.ledger.webhooks import Webhooks


class Ledger(
    Jobs,
    ListedJobs,
    JobDetailsReader,
    JobActions,
    Chunks,
    Leases,
    Rescue,
    Pacing,
    QueueStatsReader,
    Accounts,
    AccountDetailsReader,
    Activities,
    Timelines,
    Batches,
    ApiKeys,
    ProjectUsages,
    HttpRequests,
    Webhooks,
    Clock,
):
    """The jobs on one server.

    `result_ttl` is the TTL of a finished job. With `keeps_results`, `finish` stores the outcome where Celery's Redis
    backend reads it. Otherwise, the caller stores it in its result backend between `record_outcome` and `finish`.
    Every method raises QueueUnavailable if the server does not respond within the client's patience.
    """
