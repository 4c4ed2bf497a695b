"""`mira-queue results` and `mira-queue report`: current answers of a batch, and a page about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.options import BatchId
from mira_producer.cli.queues import Queues
from mira_producer.jsonl.remove_errors import STANDARD_OUTPUT

HELP_END = console.help_end(
    [
        ("mira-queue results BATCH -o answers.jsonl --errors errors.jsonl", "copies of its files"),
        ("mira-queue results BATCH | jq -r .response.body.choices[0].message.content", "only the texts"),
    ],
    {
        0: "written",
        1: "there is no such batch, or its files are on another machine",
        2: "wrong usage, or a file cannot be written",
    },
)
REPORT_HELP_END = console.help_end(
    [("mira-queue report BATCH -o report.html", "one page that opens offline")],
    {
        0: "written",
        1: "there is no such batch, or its files are on another machine",
        2: "wrong usage, nothing to report yet, or the page cannot be written",
    },
)


def results(
    batch_id: BatchId,
    output_path: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File for answers, replaced atomically; - for standard output."
        ),
    ] = STANDARD_OUTPUT,
    errors_path: Annotated[
        Path | None, typer.Option("--errors", metavar="FILE", help="File for failed lines. [default: none]")
    ] = None,
) -> None:
    """Write the current answers of a batch.

    Each answer is a line in the batch format. This works while the batch runs, too.
    """
    with Queues() as queues:
        batches = queues.of(batch_id).batches
        answers, errors = batches.results(batch_id, output_path, errors_path)
        batch = batches.get(batch_id)
    failed = f", {errors:,} failed" if errors_path else ""
    console.message(f"{answers:,} answers{failed}, of {batch.total:,} lines; the batch is {batch.status}")


def report(
    batch_id: BatchId,
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="File for the page. Replaced atomically.")
    ],
) -> None:
    """Write a report page of a batch.

    It shows throughput, waits and limits, latency, errors, tokens and cost, and the slowest lines. While the batch
    runs, the page is up to ten seconds old.

    It needs two more packages: pip install matplotlib jinja2.
    """
    with Queues() as queues:
        queues.of(batch_id).batches.report(batch_id, output_path)
    console.message(f"report: {output_path}")
