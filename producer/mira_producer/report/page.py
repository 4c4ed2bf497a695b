"""The page of a run or a batch: checked before the first call, and written at the end."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from mira_producer.engine.previous_results import prices_of, written
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.errors import InputError
from mira_producer.report import recorder_file
from mira_producer.report.contents import named_lines, prompts_of
from mira_producer.report.recorder import Recorder
from mira_queue.contract.batch import Batch, BatchFiles
from mira_queue.runtime.private_files import output_opener

Render = Callable[[Batch, str, str, datetime, Stats, Recorder, Mapping[int, str] | None], str]


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


def draw(batch: Batch, files: BatchFiles, api_base: str, path: Path, errors: str = "", *, shows_content: bool) -> None:
    """Write the page: the files tell how the lines ended, the supervisor's record when. Raises InputError.

    `errors` is the name of the error file, by default its path. If it shows content, the page quotes the prompts and
    the answers of the slowest lines, and the prompts of failed ones.
    """
    try:
        recorder, began_s = recorder_file.saved(files.record)
    except FileNotFoundError:
        raise InputError(f"batch {batch.id}: there is nothing to report: its status is {batch.status}") from None
    began = datetime.fromtimestamp(began_s, UTC).astimezone()
    stats = written(files, prices_of(files))
    prompts = prompts_of(files.input, named_lines(recorder)) if shows_content else None
    write_report(path, batch, errors or str(files.errors), api_base, began, stats, recorder, prompts)


def write_report(
    path: Path,
    batch: Batch,
    errors: str,
    where: str,
    began: datetime,
    stats: Stats,
    recorder: Recorder,
    prompts: Mapping[int, str] | None = None,
) -> None:
    """Write the page, replacing an earlier one atomically. Raises InputError.

    `errors` is the name of the error file. `where` is the API's address, or names the simulator. `began` has a time
    zone. `prompts` are those of lines, by number; None: the page quotes neither prompts nor answers.
    """
    page = _render()(batch, errors, where, began, stats, recorder, prompts)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "w", encoding="utf-8", opener=output_opener) as file:
            file.write(page)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None


def _render() -> Render:
    try:
        # Takes half a second and a large library, so only commands that write a report load it.
        module = importlib.import_module("mira_producer.report.render")
    except ImportError as error:
        raise InputError(f"--report needs two more packages ({error}): pip install matplotlib jinja2") from None
    render: Render = module.render
    return render
