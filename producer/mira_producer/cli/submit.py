"""`mira-queue submit`: run a file of requests in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console, options
from mira_producer.client import MiraQueue
from mira_producer.engine.earlier_account import adopt_text
from mira_queue.contract.batch import Batch

HELP_END = console.help_end(
    [
        ("mira-queue submit requests.jsonl", "print the batch's id, and exit"),
        ("mira-queue status BATCH --watch", "show its progress"),
        ("mira-queue results BATCH -o answers.jsonl --errors errors.jsonl", "write its current answers"),
    ],
    {0: "submitted: the id is on standard output", 1: "the queue could not be reached", 2: "wrong usage or file"},
)


def submit(
    input_path: Annotated[Path, typer.Argument(metavar="FILE", help="One JSON request per line; see run --help.")],
    on_account_error: options.AccountErrors = "pause",
    deadline: options.Deadline = None,
    dedupe: options.Dedupe = False,
    ordered: options.Ordered = False,
    max_requests: options.MaxRequests = None,
    max_tokens: options.MaxTokens = None,
    max_cost: options.MaxCost = None,
    prices_path: options.PriceTable = None,
    metadata: options.Metadata = None,
    account: options.AccountName = None,
    as_json: options.Json = False,
) -> None:
    """Submit a file of requests as a batch, and return immediately.

    The file is copied to the state directory. A background process of this machine, the supervisor, checks it, submits
    its lines to the workers, and writes their answers. It does not need this terminal, and it ends automatically.
    Workers may be anywhere: they get their jobs from the queue's server. A file with invalid lines becomes a failed
    batch that names them.
    """
    notes = options.notes_of(metadata)
    wanted = options.batch_options(on_account_error, deadline, dedupe, ordered, max_requests, max_tokens, max_cost)
    with MiraQueue() as queue:
        batch = queue.batches.submit(input_path, options=wanted, metadata=notes, prices=prices_path, account=account)
        for earlier in _waiting_for_another_key(queue, batch):
            view = queue.ledger.pace_view(earlier.account)
            owner = queue.accounts.with_id(batch.account)
            console.error(adopt_text(1, f"earlier batch ({earlier.id})", earlier.account, view.base, owner.base))
        if problem := queue.no_worker(batch.account):
            console.error(f"{problem}: start one with mira-queue worker; the batch waits for it")
    if as_json:
        console.json_data(batch.to_object())
    else:
        console.data(batch.id)


def _waiting_for_another_key(queue: MiraQueue, batch: Batch) -> list[Batch]:
    """Return unfinished batches of a file with this name that belong to an account without a worker."""
    return [
        each
        for each in queue.ledger.batches()
        if (each.input_name, each.is_run) == (batch.input_name, False)
        and not each.status.is_final
        and each.account not in ("", batch.account)
        and queue.no_worker(each.account)
    ]
