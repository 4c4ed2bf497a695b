"""Workers, producers, and batch runs: processes that are restarted until their work is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tests.chaos import workload
from tests.chaos.child import Child
from tests.chaos.options import ChaosOptions
from tests.chaos.system import System

# Time from the start of a worker to its first call on a busy machine.
AT_WORK_AFTER_S = 4.0
# The last batch starts after this share of the work.
LAST_BATCH_AT = 0.8
# Time beyond the grace period after which an exit on SIGTERM counts as late, on a busy machine.
EXIT_MARGIN_S = 10.0


class Processes:
    """All child processes. `tend` is called often. It restarts killed processes and resumes stopped ones."""

    def __init__(self, options: ChaosOptions, system: System, env: dict[str, str], folder: Path) -> None:
        self._options = options
        self._folder = folder
        self.workers = [
            Child(f"worker {number}", system.worker(options), env | system.worker_environment(options, number), folder)
            for number in range(options.workers)
        ]
        self.producers = [
            Child(f"producer {number}", system.producer(*self._arguments(number)), env, folder)
            for number in range(options.producers)
        ]
        self.batches = []
        for number, lines in enumerate(workload.batch_numbers(options)):
            workload.write_batch_file(self.batch_input(number), options.seed, lines)
            paths = [str(path) for path in (self.batch_input(number), *self.batch_outputs(number))]
            # Alternately a run in the foreground, and a submitted file with its supervisor.
            command = system.submitted(*paths) if number % 2 else system.batch(*paths)
            own = env | system.batch_environment(workload.batch_account(options, number))
            self.batches.append(Child(f"{'supervisor' if number % 2 else 'batch'} {number}", command, own, folder))
        self._begun = 0
        self._done: set[Child] = set()
        self._start_at_s: dict[Child, float] = {}
        self._wake_at_s: dict[Child, float] = {}
        #: Around every SIGCONT.
        self.waking: Callable[[Child], AbstractContextManager[object]] = nullcontext
        #: Exits that the driver did not cause, as "name: exit code".
        self.unexpected_exits: list[str] = []
        self.late_exits: list[str] = []

    def journal(self, number: int) -> Path:
        return self._folder / f"accepted-{number}.txt"

    def batch_input(self, number: int) -> Path:
        return self._folder / f"batch-{number}.jsonl"

    def batch_outputs(self, number: int) -> tuple[Path, Path]:
        return self._folder / f"batch-{number}.answers.jsonl", self._folder / f"batch-{number}.errors.jsonl"

    def _arguments(self, number: int) -> list[str]:
        numbers = workload.single_numbers(self._options, number)
        arguments = {
            "seed": self._options.seed,
            "first": numbers.start,
            "end": numbers.stop,
            "step": numbers.step,
            "accounts": self._options.accounts,
            "max-waiting": self._options.max_waiting,
            "journal": self.journal(number),
        }
        return [word for name, value in arguments.items() for word in (f"--{name}", str(value))]

    def start(self) -> None:
        """Start workers and producers. Batch runs start later, one after another."""
        for child in [*self.workers, *self.producers]:
            child.start()

    @property
    def batch(self) -> Child | None:
        """The current batch, or None."""
        return next((child for child in self.batches[: self._begun] if child not in self._done), None)

    @property
    def current_batch(self) -> list[Child]:
        return [self.batch] if self.batch else []

    @property
    def producers_are_done(self) -> bool:
        return self._done.issuperset(self.producers)

    @property
    def has_submitted_all(self) -> bool:
        return self._done.issuperset([*self.producers, *self.batches])

    def at_work(self, children: list[Child], *, started_up: bool) -> list[Child]:
        """Return the running children. With `started_up`, only those that have had time to start."""
        youngest_s = time.monotonic() - (AT_WORK_AFTER_S if started_up else 0)
        return [
            child
            for child in children
            if child.is_alive and not child.is_stopped and child.must_end_by_s is None and child.began_s <= youngest_s
        ]

    def kill(self, child: Child, start_after_s: float) -> None:
        child.kill()
        self._start_at_s[child] = time.monotonic() + start_after_s

    def term(self, child: Child) -> None:
        child.signal(signal.SIGTERM)
        child.must_end_by_s = time.monotonic() + self._options.grace_s + EXIT_MARGIN_S

    def stop(self, child: Child, for_s: float) -> None:
        child.signal(signal.SIGSTOP)
        self._wake_at_s[child] = time.monotonic() + for_s

    def start_batches(self, share_done: float) -> None:
        """Start batches evenly over the run, so that a fault at any moment finds one."""
        if self.producers_are_done:
            share_done = 1.0
        while self._begun < len(self.batches) and share_done >= LAST_BATCH_AT * self._begun / len(self.batches):
            self._begun += 1

    def tend(self) -> None:
        now_s = time.monotonic()
        for child, wake_s in list(self._wake_at_s.items()):
            if now_s >= wake_s:
                del self._wake_at_s[child]
                # A worker that was stopped just before a call sends it now.
                with self.waking(child):
                    child.signal(signal.SIGCONT)
        for child in [*self.workers, *self.producers, *self.current_batch]:
            if child not in self._done:
                self._maintain(child, now_s)

    def wake_all(self) -> None:
        for child in list(self._wake_at_s):
            self._wake_at_s[child] = 0.0
        self.tend()

    def end(self) -> None:
        """Stop all children. Workers get their grace period."""
        children = [*self.workers, *self.producers, *self.batches]
        for child in children:
            if child.is_alive:
                child.signal(signal.SIGCONT)
                child.signal(signal.SIGTERM)
        end_s = time.monotonic() + self._options.grace_s + EXIT_MARGIN_S
        for child in children:
            child.end(max(0.0, end_s - time.monotonic()))

    def _maintain(self, child: Child, now_s: float) -> None:
        if child.is_alive:
            if child.must_end_by_s is not None and now_s > child.must_end_by_s:
                self.late_exits.append(child.name)
                self.kill(child, 0.0)
            return
        if child in self._start_at_s:
            if now_s < self._start_at_s[child]:
                return
            del self._start_at_s[child]
        elif child.exit_code == 0 and child not in self.workers:
            self._done.add(child)
            return
        elif child.exit_code is not None and child.must_end_by_s is None:
            self.unexpected_exits.append(f"{child.name}: exit code {child.exit_code}")
        child.start()
