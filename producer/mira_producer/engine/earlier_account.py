"""Jobs that an earlier run of the same files left for another account: its key, or its base URL, has changed."""

from __future__ import annotations

from itertools import islice

from mira_producer.engine.pending_lines import pending_lines
from mira_producer.engine.plan import Plan
from mira_producer.engine.window import MAX_LOOKED_UP, key_of
from mira_producer.text import plural
from mira_queue.ledger.ledger import Ledger


def open_jobs_of(ledger: Ledger, account: str, plan: Plan) -> int:
    """Return how many pending lines of the plan have an open job of this account."""
    if not ledger.open_jobs(account):
        return 0
    found = 0
    lines = pending_lines(plan.files.input, plan.check, plan.index)
    while chunk := list(islice(lines, MAX_LOOKED_UP)):
        job_ids = [each for each in ledger.holders(account, [key_of(plan, line) for line in chunk]) if each]
        found += sum(not status.state.is_final for status in ledger.statuses(job_ids))
    return found


def adopt_text(count: int, what: str, account: str, recorded_base: str, base: str) -> str:
    """Return that jobs wait for the key of another account, and the command that moves them."""
    other_base = "" if recorded_base == base else " --allow-other-base"
    return (
        f"{plural(count, what)} of this file wait for the key of account {account} ({recorded_base}): "
        f"mira-queue accounts adopt {account}{other_base} moves them to the current account"
    )
