"""Draw the report of a batch: its files tell how its lines ended, its supervisor's record when and how fast."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mira_producer.engine.previous_results import prices_of, written
from mira_producer.jsonl.errors import InputError
from mira_producer.report import recorder_file as recording
from mira_producer.report.page import About, write_report
from mira_queue.contract.batch import Batch, BatchFiles


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
    about = About(
        input=batch.input_name,
        output=str(files.output),
        errors=str(files.errors),
        where=api_base,
        began=began,
        reason=_reason(batch),
        kind="run" if batch.is_run else "batch",
    )
    write_report(path, stats, recorder, about)


def _reason(batch: Batch) -> str:
    """Return why the batch has not ended, or did not complete."""
    if batch.paused:
        return f"Paused: {batch.paused}"
    return "" if batch.status == "completed" else f"The batch is {batch.status}."
