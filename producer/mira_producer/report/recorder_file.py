"""A batch's recorder on disk, so that the next supervisor continues it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from mira_producer.report.recorder import Bucket, Recorder, Slow, Timeline
from mira_queue.contract.batch import Kind

Clock = Callable[[], float]
# A crash of the supervisor loses this much of the report, and nothing else.
SAVE_EVERY_S = 10.0
# Raised when the fields change. A file of another version is ignored.
FORMAT = 2


class Recording:
    """A batch's recorder and its file. `since` is why the batch waited since the file was saved."""

    def __init__(self, path: Path, since: Kind, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self.recorder = load(path, since=since)
        self._save_s = time.monotonic() + SAVE_EVERY_S

    def save(self, *, ended: bool = False) -> None:
        self._save_s = time.monotonic() + SAVE_EVERY_S
        try:
            save(self.recorder, self._path, ended=ended)
        except OSError as error:
            # The answers matter more than the report.
            self._warn(f"{self._path}: {error.strerror}")

    def save_if_due(self) -> None:
        if time.monotonic() >= self._save_s:
            self.save()


def save(recorder: Recorder, path: Path, *, ended: bool = False, clock: Clock = time.time) -> None:
    """Write the file atomically. `clock` returns Unix time. Raises OSError."""
    recorder.waits(recorder.kind)
    record = {
        "format": FORMAT,
        "saved_s": clock(),
        "ended": ended,
        "seconds": recorder.seconds,
        "width_s": recorder.timeline.width_s,
        "buckets": [{**asdict(bucket), "cost": str(bucket.cost)} for bucket in recorder.timeline.buckets],
        "latencies": sorted(recorder.latencies.classes.items()),
        "max_ms": recorder.latencies.max_ms,
        "slowest": [(slow.latency_ms, slow.custom_id) for slow in recorder.slowest],
        "samples": recorder.samples,
        "repeats": recorder.repeats,
    }
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(orjson.dumps(record))
    part.replace(path)


def load(path: Path, *, since: Kind = "", clock: Clock = time.time, monotonic: Clock = time.monotonic) -> Recorder:
    """Return the saved recorder, running again, or a new one.

    `since` is why the batch waited since it was saved, unless it had finished.
    """
    recorder = Recorder(monotonic)
    found = _read(path)
    if found is None:
        return recorder
    now_s, offline_s = monotonic(), max(0.0, clock() - found["saved_s"])
    recorder.began_s = now_s - offline_s - found["seconds"]
    recorder.timeline = Timeline(recorder.began_s)
    recorder.timeline.width_s = found["width_s"]
    recorder.timeline.buckets = [Bucket(**{**each, "cost": Decimal(each["cost"])}) for each in found["buckets"]]
    recorder.latencies.classes = Counter(dict(found["latencies"]))
    recorder.latencies.count = recorder.latencies.classes.total()
    recorder.latencies.max_ms = found["max_ms"]
    recorder.slowest = [Slow(*each) for each in found["slowest"]]
    recorder.samples = {code: (custom_id, detail) for code, (custom_id, detail) in found["samples"].items()}
    recorder.repeats = found["repeats"]
    if since and not found["ended"]:
        recorder.timeline.spread(since, now_s - offline_s, now_s)
    return recorder


def saved(path: Path) -> tuple[Recorder, float]:
    """Return the recorder as saved, and its start in Unix time. Raises FileNotFoundError if there is none."""
    found = _read(path)
    if found is None:
        raise FileNotFoundError(path)
    clock = found["saved_s"]
    recorder = load(path, clock=lambda: clock, monotonic=lambda: 0.0)
    recorder.end()
    return recorder, clock - recorder.seconds


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        # The record is only for the report. The batch continues without it.
        return None
    return found if found.get("format") == FORMAT else None
