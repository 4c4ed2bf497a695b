"""The durable record of every job: one method for each atomic verb.

Every verb may be repeated after a lost answer and does its work once; that is what makes retrying connections safe.
A lease is held under an epoch: whoever comes with an old epoch changes nothing.
"""

from __future__ import annotations

from mira_queue.ledger.accounts import AccountVerbs
from mira_queue.ledger.batches import BatchVerbs
from mira_queue.ledger.jobs import JobVerbs
from mira_queue.ledger.leases import LeaseVerbs
from mira_queue.ledger.pace import PaceVerbs
from mira_queue.ledger.queue_stats import OverviewVerbs
from mira_queue.ledger.rescue import RescueVerbs
from mira_queue.ledger.workers import WorkerVerbs


class Ledger(JobVerbs, LeaseVerbs, RescueVerbs, PaceVerbs, OverviewVerbs, AccountVerbs, BatchVerbs, WorkerVerbs):
    """The jobs on one server.

    `result_ttl` is the life of a finished job; with `keeps_results` outcomes are stored by `finish` itself, where
    Celery's Redis backend looks for them, else the caller stores them elsewhere between `settle` and `finish`.
    Every method raises QueueUnavailable when the server does not answer within the client's patience.
    """
