"""The report of a batch: its files say what became of its lines, its keeper's record when and how fast."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mira_producer.batches.counts import prices_of, written
from mira_producer.batches.spool import BatchFiles
from mira_producer.jsonl.errors import InputError
from mira_producer.report import recorder_file as recording
from mira_producer.report.page import About, write_report
from mira_queue.contract.batch import Batch


def draw(batch: Batch, files: BatchFiles, api_base: str, path: Path) -> None:
    """Write the page. Raises InputError."""
    try:
        recorder, began_s = recording.saved(files.record)
    except FileNotFoundError:
        raise InputError(f"batch {batch.id}: there is nothing to report yet: it is {batch.status}") from None
    stats = written(files, prices_of(files))
    stats.total = batch.total
    stats.unanswered_calls = batch.unanswered_calls
    began = datetime.fromtimestamp(began_s, UTC).astimezone()
    about = About(batch.input_name, str(files.output), str(files.errors), api_base, began, _reason(batch), "batch")
    write_report(path, stats, recorder, about)


def _reason(batch: Batch) -> str:
    """Why it has not come to its end, or not to the end that was wanted."""
    if batch.paused:
        return f"Paused: {batch.paused}"
    return "" if batch.status == "completed" else f"The batch is {batch.status}."
