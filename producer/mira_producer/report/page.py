"""The page of a run or a batch: checked before the first call, and written at the end."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from mira_producer.engine.stats import Stats
from mira_producer.jsonl.errors import InputError
from mira_producer.report.recorder import Recorder
from mira_queue.runtime.private_files import output_opener


@dataclass(frozen=True, slots=True)
class About:
    """Subject of the page.

    `where` is the API's address, or names the simulator. `began` has a time zone. `reason` is why the run ended early;
    it is empty for a complete one.
    """

    input: str
    output: str
    errors: str
    where: str
    began: datetime
    reason: str = ""
    kind: Literal["run", "batch"] = "run"


def check_report(path: Path, files: Iterable[Path] = ()) -> None:
    """Check that the page can be drawn and written, and that it replaces none of the run's `files`.

    Raises InputError.
    """
    _render()
    if path.resolve() in {file.resolve() for file in files}:
        raise InputError(f"--report: {path} is a file of the run itself: choose another name")
    folder = path.resolve().parent
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: Is a directory")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path}: cannot be written: {folder} is not a directory that you can write to")


def write_report(path: Path, stats: Stats, recorder: Recorder, about: About) -> None:
    """Write the page, replacing an earlier one atomically. Raises InputError."""
    recorder.end()
    page = _render()(stats, recorder, about)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "w", encoding="utf-8", opener=output_opener) as file:
            file.write(page)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None


def _render() -> Callable[[Stats, Recorder, About], str]:
    try:
        # Takes half a second and a large library, so only commands that write a report load it.
        render: Callable[[Stats, Recorder, About], str] = importlib.import_module("mira_producer.report.render").render
    except ImportError as error:
        raise InputError(f"--report needs two more packages ({error}): pip install matplotlib jinja2") from None
    return render
