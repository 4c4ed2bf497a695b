"""What an engine is told of a batch."""

from __future__ import annotations

from datetime import UTC, datetime

from mira_producer.batches.commands import budget_of
from mira_producer.batches.spool import BatchFiles
from mira_producer.cli.paths import group_of
from mira_producer.cost.prices import Prices
from mira_producer.engine.options import EngineOptions
from mira_queue.contract.batch import Batch

# Open jobs of a batch: enough that no fleet of a usual size waits for lines; a few megabytes of the server's memory.
WINDOW = 4000


def options_of(batch: Batch, files: BatchFiles, prices: Prices) -> EngineOptions:
    """The files are those that the run reads and writes."""
    options = batch.options
    return EngineOptions(
        input=files.input,
        output=files.output,
        errors=files.errors,
        group=group_of(files.output),
        window=WINDOW,
        on_account_error="fail" if options.on_account_error == "fail" else "pause",
        deadline=datetime.fromtimestamp(options.deadline_s, UTC) if options.deadline_s else None,
        dedupe=options.dedupe,
        ordered=options.ordered,
        prices=prices,
        budget=budget_of(options),
        careful=batch.careful,
    )
