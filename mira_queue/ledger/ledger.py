"""The durable record of every job: one method for each atomic verb.

Every verb may be repeated after a lost answer and does its work once; that is what makes retrying connections safe.
A lease is held under an epoch: whoever comes with an old epoch changes nothing.
"""

from __future__ import annotations

from mira_queue.ledger.accounts import Accounts
from mira_queue.ledger.batches import Batches
from mira_queue.ledger.jobs import Jobs
from mira_queue.ledger.leases import Leases
from mira_queue.ledger.pace import Pacing
from mira_queue.ledger.queue_stats import QueueStatsReader
from mira_queue.ledger.rescue import Rescue


class Ledger(Jobs, Leases, Rescue, Pacing, QueueStatsReader, Accounts, Batches):
    """The jobs on one server.

    `result_ttl` is the life of a finished job; with `keeps_results` outcomes are stored by `finish` itself, where
    Celery's Redis backend looks for them, else the caller stores them elsewhere between `settle` and `finish`.
    Every method raises QueueUnavailable when the server does not answer within the client's patience.
    """
