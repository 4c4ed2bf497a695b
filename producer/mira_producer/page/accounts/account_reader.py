"""Reads the state of accounts, in a number of round trips that does not grow with the queue."""

from __future__ import annotations

from collections.abc import Sequence

from mira_producer.client import MiraQueue
from mira_producer.page.accounts.account_state import AccountState, state_of


def account_states(queue: MiraQueue, accounts: Sequence[str] | None = None) -> list[AccountState]:
    """Return the states of these accounts, or of all."""
    ledger = queue.ledger
    found = ledger.account_stats(ledger.accounts() if accounts is None else accounts)
    details = ledger.account_details([stats.pace for stats in found])
    return [
        state_of(stats, of_account, queue.accounts.with_id(stats.pace.account).limits)
        for stats, of_account in zip(found, details, strict=True)
    ]
