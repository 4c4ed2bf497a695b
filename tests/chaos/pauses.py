"""Pauses of batches with the real command. After it has returned, and one second more, no call of the batch starts."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.child import Child, clean_environment, module

POLL_S = 0.05
RETRY_S = 0.5
COMMAND_TIMEOUT_S = 60.0
# A command may be refused for some seconds while the server is down or the supervisor starts.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Time in which a batch was paused, in monotonic seconds: from the exit of `pause` to the start of `resume`."""

    batch: int
    begins_s: float
    ends_s: float


class Pauses:
    """Pauses one batch at a time, in a thread of its own. `done` are the acknowledged pauses."""

    def __init__(self, env: Mapping[str, str], folder: Path, record: Callable[[str], None]) -> None:
        self._env = {**clean_environment(), **env}
        self._folder = folder
        self._record = record
        self._thread: threading.Thread | None = None
        self.done: list[Pause] = []

    def begin(self, number: int, child: Child, for_s: float) -> bool:
        """Begin to pause batch `number`, whose process is `child`. Return False while another batch is paused."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=self._pause, args=(number, child, for_s), name="pause", daemon=True)
        self._thread.start()
        return True

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _pause(self, number: int, child: Child, for_s: float) -> None:
        process_began_s = child.began_s
        batch = self._find(number)
        if batch is None:
            return
        is_run = child.name.startswith("batch")
        code = self._command("pause", batch["id"])
        begins_s = time.monotonic()
        ends_s = begins_s + for_s
        while (now_s := time.monotonic()) < ends_s:
            if is_run and child.began_s != process_began_s:
                # The user ran the command again, which resumes the run.
                now_s = child.began_s
                break
            time.sleep(POLL_S)
        if code == 0:
            self.done.append(Pause(number, begins_s, now_s))
            self._record(f"batch {number} was paused for {now_s - begins_s:.1f} s")
        self._resume(batch["id"])

    def _resume(self, batch_id: str) -> None:
        """Repeat the command until it is accepted, or the batch needs none."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s and self._command("resume", batch_id) != 0:
            if self._needs_no_resume(batch_id):
                return
            time.sleep(RETRY_S)

    def _needs_no_resume(self, batch_id: str) -> bool:
        batch = next((each for each in self._batches() if each["id"] == batch_id), None)
        # The process of a run has exited: the driver runs its command again.
        return batch is not None and (
            batch["completed_at"] is not None or batch["mira"]["paused_by"] in ("process", "interrupt")
        )

    def _find(self, number: int) -> dict[str, Any] | None:
        name = f"batch-{number}.jsonl"
        found = [
            each
            for each in self._batches()
            if each["input_file_id"] == name and each["status"] == "in_progress" and not each["mira"]["paused"]
        ]
        return found[0] if found else None

    def _batches(self) -> list[dict[str, Any]]:
        done = self._run("batches", "--json")
        found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
        return found

    def _command(self, *words: str) -> int:
        done = self._run(*words)
        self._record(f"{' '.join(words)}: exit code {done.returncode} {done.stderr.strip()[:200]}")
        return done.returncode

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = module("mira_producer.cli", *words)
        try:
            return subprocess.run(
                command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, -1, "", "no exit")
