"""What a batch's report is drawn from, kept on disk: a keeper that follows another goes on with it."""

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
from structlog.typing import FilteringBoundLogger

from mira_producer.engine.wait_reason import Kind
from mira_producer.report.recorder import Bucket, Recorder, Slow, Timeline

Clock = Callable[[], float]
# A keeper that is killed takes so much of the picture with it, and nothing else.
SAVE_EVERY_S = 10.0


class Recording:
    """A batch's recorder, and the file that keeps it; `since` is what kept the batch waiting since it was saved."""

    def __init__(self, path: Path, since: Kind, log: FilteringBoundLogger) -> None:
        self._path = path
        self._log = log
        self.recorder = load(path, since=since)
        self._save_s = time.monotonic() + SAVE_EVERY_S

    def save(self, *, ended: bool = False) -> None:
        self._save_s = time.monotonic() + SAVE_EVERY_S
        try:
            save(self.recorder, self._path, ended=ended)
        except OSError as error:
            # The lines matter; a picture of them can be of less.
            self._log.warning("batch_says", text=f"{self._path}: {error.strerror}")

    def save_if_due(self) -> None:
        if time.monotonic() >= self._save_s:
            self.save()


def save(recorder: Recorder, path: Path, *, ended: bool = False, clock: Clock = time.time) -> None:
    """Write it down, whole or not at all. `clock` says the Unix time. Raises OSError."""
    recorder.look()
    record = {
        "saved_s": clock(),
        "ended": ended,
        "seconds": recorder.seconds,
        "width_s": recorder.timeline.width_s,
        "buckets": [{**asdict(bucket), "cost": str(bucket.cost)} for bucket in recorder.timeline.buckets],
        "latencies": sorted(recorder.latencies.classes.items()),
        "most_ms": recorder.latencies.most_ms,
        "slowest": [(slow.latency_ms, slow.custom_id) for slow in recorder.slowest],
        "samples": recorder.samples,
        "repeats": recorder.repeats,
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(orjson.dumps(record))
    beside.replace(path)


def load(path: Path, *, since: Kind = "", clock: Clock = time.time, monotonic: Clock = time.monotonic) -> Recorder:
    """What was saved, or a new one. It goes on now; `since` is what kept the batch waiting since it was saved,
    unless it had ended then.
    """
    recorder = Recorder(monotonic)
    found = _read(path)
    if found is None:
        return recorder
    now_s, away_s = monotonic(), max(0.0, clock() - found["saved_s"])
    recorder.began_s = now_s - away_s - found["seconds"]
    recorder.timeline = Timeline(recorder.began_s)
    recorder.timeline.width_s = found["width_s"]
    recorder.timeline.buckets = [Bucket(**{**each, "cost": Decimal(each["cost"])}) for each in found["buckets"]]
    recorder.latencies.classes = Counter(dict(found["latencies"]))
    recorder.latencies.count = recorder.latencies.classes.total()
    recorder.latencies.most_ms = found["most_ms"]
    recorder.slowest = [Slow(*each) for each in found["slowest"]]
    recorder.samples = {code: (custom_id, detail) for code, (custom_id, detail) in found["samples"].items()}
    recorder.repeats = found["repeats"]
    if since and not found["ended"]:
        recorder.timeline.spread(since, now_s - away_s, now_s)
    return recorder


def saved(path: Path) -> tuple[Recorder, float]:
    """As it was saved, for a report, and the Unix time when it began. Raises FileNotFoundError: nothing was saved."""
    found = _read(path)
    if found is None:
        raise FileNotFoundError(path)
    clock = found["saved_s"]
    recorder = load(path, clock=lambda: clock, monotonic=lambda: 0.0)
    recorder.end()
    return recorder, clock - recorder.seconds


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError):
        # It is for a picture: a batch goes on without it.
        return None
