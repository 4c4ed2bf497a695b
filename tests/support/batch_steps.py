"""Steps of tests about batches: submit one, wait for it, count its lines, find its supervisor."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from mira_queue import MiraQueue
from mira_queue.contract.batch import Batch, BatchStatus
from mira_queue.contract.settings import Settings
from tests.support.run_process import read_lines, write_lines
from tests.support.waiting import wait_until

LINES = 200


def supervisors(queue: MiraQueue) -> list[int]:
    """Processes that keep the batches of this queue: those that hold a lock in its directory."""
    prefix = f"{queue.batches.spool.root}/supervisor-"
    found = [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if any(target.startswith(prefix) for target in open_files(process))
    ]
    return [pid for pid in found if pid != os.getpid()]


def open_files(process: Path) -> list[str]:
    """Return the targets of the links in a directory of /proc. Files that close meanwhile are skipped."""
    found = []
    with suppress(OSError):
        for fd in (process / "fd").iterdir():
            with suppress(OSError):
                found.append(os.readlink(fd))
    return found


def started(settings: Settings) -> list[int]:
    """Processes that are supervisors of this directory, or on their way to become one."""
    directory = f"MIRA_STATE_DIR={settings.state_dir}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_ours = directory in (process / "environ").read_bytes().split(b"\0")
            if is_ours and b"mira_producer.batches" in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def end_supervisors(queue: MiraQueue) -> None:
    """Kill them, also those that have only just been started and hold no lock yet."""
    for pid in started(queue.settings):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def entries(count: int = LINES, mark: str = "") -> list[dict[str, Any]]:
    return [{"custom_id": f"line-{number}", "prompt": f"question {number} {mark}"} for number in range(count)]


def submitted(queue: MiraQueue, folder: Path, lines: list[dict[str, Any]]) -> str:
    write_lines(folder / "input.jsonl", lines)
    return queue.batches.submit(folder / "input.jsonl", metadata={"for": "a test"}).id


def at(queue: MiraQueue, batch_id: str, status: BatchStatus) -> Batch:
    wait_until(f"the batch is {status}", lambda: queue.batches.get(batch_id).status is status)
    return queue.batches.get(batch_id)


def paused(queue: MiraQueue, batch_id: str) -> str:
    wait_until("the batch is paused", lambda: bool(queue.batches.get(batch_id).paused))
    return queue.batches.get(batch_id).paused


def results(queue: MiraQueue, batch_id: str, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """The custom_ids of answers and errors."""
    queue.batches.results(batch_id, folder / "output.jsonl", folder / "errors.jsonl")
    answers, errors = (
        Counter(line["custom_id"] for line in read_lines(folder / name)) for name in ("output.jsonl", "errors.jsonl")
    )
    return answers, errors


def every_line_once(answers: Counter[str], errors: Counter[str], count: int = LINES) -> None:
    assert answers + errors == Counter(entry["custom_id"] for entry in entries(count))
