"""A batch's recorder on disk, so that the next supervisor continues it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from mira_producer.report.recorder import Record, Recorder
from mira_queue.contract.batch import Kind

Clock = Callable[[], float]
# A crash of the supervisor loses this much of the report, and nothing else.
SAVE_EVERY_S = 10.0


@dataclass(slots=True)
class Saved:
    """The file: a record, its time in seconds of Unix time, and how long the run took until then.

    `format` changes with the fields. A file of another format is ignored.
    """

    record: Record
    seconds: float
    saved_s: float
    ended: bool
    format: Literal[4]


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
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(TypeAdapter(Saved).dump_json(Saved(recorder, recorder.seconds, clock(), ended, 4)))
    part.replace(path)


def load(path: Path, *, since: Kind = "", clock: Clock = time.time, monotonic: Clock = time.monotonic) -> Recorder:
    """Return the saved recorder, running again, or a new one.

    `since` is why the batch waited since it was saved, unless it had finished.
    """
    found = _read(path)
    if found is None:
        return Recorder(monotonic)
    offline_s = max(0.0, clock() - found.saved_s)
    recorder = Recorder(monotonic, found.record, offline_s + found.seconds)
    if since and not found.ended:
        recorder.timeline.spread(since, found.seconds, found.seconds + offline_s)
    return recorder


def saved(path: Path) -> tuple[Recorder, float]:
    """Return the recorder as saved, and its start in Unix time. Raises FileNotFoundError if there is none."""
    found = _read(path)
    if found is None:
        raise FileNotFoundError(path)
    recorder = Recorder(lambda: 0.0, found.record, found.seconds)
    recorder.end()
    return recorder, found.saved_s - found.seconds


def _read(path: Path) -> Saved | None:
    try:
        return TypeAdapter(Saved).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        # The record is only for the report. The batch continues without it.
        return None
