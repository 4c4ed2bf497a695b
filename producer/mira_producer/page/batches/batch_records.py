"""Record of a batch, as far as the page needs it: examples of its errors, and its chart."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mira_producer.page.batches.throughput_chart import ThroughputChart, chart_of
from mira_producer.report import recorder_file
from mira_producer.report.recorder import Example

MAX_RECORDS = 100


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """`samples` has examples of lines for each counted code."""

    samples: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    chart: ThroughputChart | None = None


class BatchRecords:
    """The last records. Supervisors write them every 10 s, and live pages read them every second."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, int], BatchRecord]] = {}

    def of(self, path: Path) -> BatchRecord:
        """Return the record of a file, which may not exist yet."""
        try:
            found = os.stat(path)
            version = found.st_mtime_ns, found.st_size
            known = self._read.get(path)
            if known is not None and known[0] == version:
                return known[1]
            recorder, _ = recorder_file.saved(path)
        except FileNotFoundError:
            return BatchRecord()
        record = BatchRecord(recorder.samples, chart_of(recorder))
        if len(self._read) >= MAX_RECORDS:
            self._read.clear()
        self._read[path] = version, record
        return record
