"""`mira-queue report`: report page of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.options import BatchId
from mira_producer.cli.queues import Queues

HELP_END = console.help_end(
    [("mira-queue report BATCH -o report.html", "one page that opens offline")],
    {
        0: "written",
        1: "there is no such batch, or its files are on another machine",
        2: "wrong usage, nothing to report yet, or the page cannot be written",
    },
)


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
