"""`mira-queue report`: a batch as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.batches import BatchId
from mira_producer.client import MiraQueue

HELP_END = console.help_end(
    [("mira-queue report BATCH -o report.html", "one page, which opens without a network")],
    {
        0: "the page was written",
        1: "there is no such batch, or its files are on another machine",
        2: "wrong usage, nothing to report yet, or the page cannot be written",
    },
)


def report(
    batch_id: BatchId,
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="Where the page goes; replaced at once, whole.")
    ],
) -> None:
    """Draw a batch as a page.

    Throughput, waits and limits, latencies, errors, tokens and cost, slowest lines.

    Also while it runs: then, as it was within the last seconds. Needs matplotlib (pip install matplotlib).
    """
    with MiraQueue() as queue:
        queue.batches.report(batch_id, output_path)
    console.message(f"report: {output_path}")
