"""Adoption of an account's open jobs and batches by another account: its key, or its base URL, has changed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mira_producer.batches.lock import is_locked
from mira_producer.batches.spool import lock_of_run
from mira_producer.client import MiraQueue
from mira_queue.contract.account import Account
from mira_queue.contract.batch import Batch
from mira_queue.contract.commands import Adopt
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.names import Lane

# A supervisor checks for commands twice per second, and lets calls in flight finish.
BATCH_TIMEOUT_S = 60.0
POLL_S = 0.2


class AdoptionRefused(MiraQueueError):
    """The jobs cannot move to this account. The message says why."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """Jobs and batches that have moved, and open jobs that stay.

    `duplicates` stay because the new account has a job with the same idempotency key, and `running` because a live
    worker runs them.
    """

    jobs: int = 0
    batches: int = 0
    duplicates: int = 0
    running: int = 0


def adopt(queue: MiraQueue, old: str, new: Account, *, allow_other_base: bool = False) -> Adopted:
    """Move the open jobs of the account with the id `old` to another account. Raises AdoptionRefused.

    With `allow_other_base`, an account may adopt its own jobs: its base URL has changed.
    """
    ledger = queue.ledger
    recorded = ledger.pace_view(old).base
    if old not in ledger.accounts() and not ledger.open_jobs(old):
        known = ", ".join(ledger.accounts()) or "none"
        raise AdoptionRefused(f"no account {old[:80]!r} in this queue; it knows {known}")
    if recorded != new.base and not allow_other_base:
        raise AdoptionRefused(
            f"jobs of account {old} belong to {recorded or 'an unknown base'}, and account {new.id} calls {new.base}: "
            "to send their prompts there, add --allow-other-base"
        )
    if old == new.id:
        if recorded == new.base:
            raise AdoptionRefused(f"{old} is the current account: name the one whose jobs it should adopt")
        ledger.set_base(old, new.base)
        return Adopted(jobs=len(ledger.open_jobs(old)))
    ledger.record_account(new.id, new.base)
    # First: from now on, their supervisors submit lines to the new account.
    batches = [batch for batch in ledger.batches() if batch.account == old and _has_supervisor(queue, batch)]
    for batch in batches:
        _adopt_batch(queue, batch, new)
    moved, duplicates = ledger.adopt(old, new.id, ledger.open_jobs(old))
    queue.send(new.id, moved, Lane.FIRST)
    return Adopted(len(moved), len(batches), duplicates, len(ledger.open_jobs(old)) - duplicates)


def _has_supervisor(queue: MiraQueue, batch: Batch) -> bool:
    """Return True if a process runs the batch, or will run it. The next run of a file chooses its account itself."""
    if batch.status.is_final:
        return False
    files = queue.batches.spool.files_of(batch)
    return not batch.is_run or (files is not None and is_locked(lock_of_run(files)))


def _adopt_batch(queue: MiraQueue, batch: Batch, new: Account) -> None:
    if not queue.ledger.send_command(batch.id, Adopt(new.id)):
        raise AdoptionRefused(f"batch {batch.id}: an earlier command is in progress: run this command again later")
    end_s = time.monotonic() + BATCH_TIMEOUT_S
    # Reading the batch starts its supervisor if it has none.
    while queue.batches.get(batch.id).account != new.id:
        if time.monotonic() > end_s:
            raise AdoptionRefused(
                f"batch {batch.id}: it has calls in flight, or its supervisor does not respond (see {batch.place}): "
                "run this command again later"
            )
        time.sleep(POLL_S)
