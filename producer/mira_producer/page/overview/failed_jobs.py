"""Failed single jobs that a user can retry after a fix of the account. They stay listed until they are retried."""

from __future__ import annotations

from mira_producer.page.visitor import Audience
from mira_queue.contract.errors import ERROR_CODES, Cause, error_for_code
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger

# A pause keeps the lines of a batch that get these errors. Single jobs fail with them.
CODES = tuple(sorted(code for code in ERROR_CODES if error_for_code(code).cause is Cause.ACCOUNT))


def failed_by_account(ledger: Ledger, audience: Audience) -> list[tuple[str, int]]:
    """Return how many single jobs have failed with each error of the account, without the errors that none has."""
    counts = [(code, ledger.count_listed(JobFilter(JobState.FAILED, code, project=audience.project))) for code in CODES]
    return [(code, count) for code, count in counts if count]
