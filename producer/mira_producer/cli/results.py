"""`mira-queue results`: the answers of a batch, now."""

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
        ("mira-queue results BATCH -o answers.jsonl --errors errors.jsonl", "copies of its files, complete lines"),
        ("mira-queue results BATCH | jq -r .response.body.choices[0].message.content", "the texts"),
    ],
    {
        0: "all that there is was written",
        1: "there is no such batch, or its files are on another machine",
        2: "wrong usage, or a file cannot be written",
    },
)


def results(
    batch_id: BatchId,
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where answers go; replaced at once, whole.")
    ] = STANDARD_OUTPUT,
    errors_path: Annotated[
        Path | None, typer.Option("--errors", metavar="FILE", help="Where failed lines go. [default: nowhere]")
    ] = None,
) -> None:
    """Write the answers that a batch has by now.

    In the batch format, a complete line for each; also while it runs.
    """
    with Queues() as queues:
        batches = queues.of(batch_id).batches
        answers, errors = batches.results(batch_id, output_path, errors_path)
        batch = batches.get(batch_id)
    failed = f", {errors:,} failed" if errors_path else ""
    console.message(f"{answers:,} answers{failed}, of {batch.total:,} lines; the batch is {batch.status}")
