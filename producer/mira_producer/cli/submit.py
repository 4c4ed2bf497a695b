"""`mira-queue submit`: a file is handed in, and somebody else brings it to its end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.batches import MaxCost, MaxRequests, MaxTokens
from mira_producer.cli.foreground import warn_of_others
from mira_producer.cli.outcome import Json
from mira_producer.cli.run import deadline_time
from mira_producer.client import MiraQueue
from mira_producer.engine.options import OnAccountError
from mira_queue.contract.batch import BatchOptions

HELP_END = console.help_end(
    [
        ("mira-queue submit requests.jsonl", "prints the batch's id, and returns"),
        ("mira-queue status BATCH --watch", "how far it is"),
        ("mira-queue results BATCH -o answers.jsonl --errors errors.jsonl", "what it has, also while it runs"),
    ],
    {0: "submitted: the id is on standard output", 1: "the queue could not be reached", 2: "wrong usage or file"},
)


def submit(
    input_path: Annotated[Path, typer.Argument(metavar="FILE", help="One JSON request a line; see run --help.")],
    on_account_error: Annotated[
        OnAccountError, typer.Option(help="On 401, 402 and 403: pause the batch; or note one error a line.")
    ] = "pause",
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Lines not ended by then are not run: 24h, 90m, an ISO time.")
    ] = None,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Send identical requests once; each line gets the answer.")
    ] = False,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="In the end, put the files in the order of the input.")
    ] = False,
    max_requests: MaxRequests = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    prices_path: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Price table. [default: ./prices.toml, if there]")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="A note of yours; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hand in a file of requests as a batch, and return at once.

    The file is copied to the state directory, and a background process of this machine, the keeper, checks it, hands
    its lines to the workers and collects their answers; it needs nothing of this terminal and ends by itself. Workers
    may be anywhere: they get their jobs from the queue's server. A file with wrong lines becomes a failed batch that
    names them.
    """
    notes = dict(_note(each) for each in metadata or [])
    end = deadline_time(deadline)
    options = BatchOptions(
        on_account_error=on_account_error,
        deadline_s=math.ceil(end.timestamp()) if end else 0,
        dedupe=dedupe,
        ordered=ordered,
        max_requests=max_requests or 0,
        max_tokens=max_tokens or 0,
        max_cost=max_cost or "",
    )
    with MiraQueue() as queue:
        batch = queue.batches.submit(input_path, options=options, metadata=notes, prices=prices_path)
        if not queue.ledger.live_workers():
            console.error("no worker is running: start one with mira-queue worker; the batch waits for it")
        if queue.settings.api_key is not None:
            warn_of_others(queue.ledger.bases_at_work(), queue.settings.api_base, console.error)
    if as_json:
        console.json_data(batch.to_object())
    else:
        console.data(batch.id)


def _note(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"expected KEY=VALUE, got {text[:40]!r}", param_hint="--metadata")
    return key, value
