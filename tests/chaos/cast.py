"""Who takes part: workers, producers and batch runs as processes, kept alive until their work is done."""

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

# A worker on a busy machine needs so long from its start to its first call.
AT_WORK_AFTER_S = 4.0
# The last batch begins when so much of the work is done.
LAST_BATCH_AT = 0.8
# What SIGTERM may take beyond the grace period, on a busy machine, before it counts as not obeyed.
EXIT_MARGIN_S = 10.0


class Cast:
    """All children. `tend` is called often: it restarts who was killed, and wakes who was stopped."""

    def __init__(self, options: ChaosOptions, system: System, env: dict[str, str], folder: Path) -> None:
        self._options = options
        self._folder = folder
        self.workers = [
            Child(f"worker {number}", system.worker(options), env, folder) for number in range(options.workers)
        ]
        self.producers = [
            Child(f"producer {number}", system.producer(*self._orders(number)), env, folder)
            for number in range(options.producers)
        ]
        self.batches = []
        for number, lines in enumerate(workload.batch_numbers(options)):
            workload.write_batch_file(self.batch_input(number), options.seed, lines)
            paths = [str(path) for path in (self.batch_input(number), *self.batch_outputs(number))]
            # By turns: a run of a file, and a file that is submitted, with its supervisor.
            command = system.submitted(*paths) if number % 2 else system.batch(*paths)
            self.batches.append(Child(f"{'supervisor' if number % 2 else 'batch'} {number}", command, env, folder))
        self._begun = 0
        self._done: set[Child] = set()
        self._start_at_s: dict[Child, float] = {}
        self._wake_at_s: dict[Child, float] = {}
        #: Around every SIGCONT.
        self.waking: Callable[[], AbstractContextManager[None]] = nullcontext
        #: Deaths that nobody here caused, as "name: exit code".
        self.own_deaths: list[str] = []
        self.slow_exits: list[str] = []

    def journal(self, number: int) -> Path:
        return self._folder / f"accepted-{number}.txt"

    def batch_input(self, number: int) -> Path:
        return self._folder / f"batch-{number}.jsonl"

    def batch_outputs(self, number: int) -> tuple[Path, Path]:
        return self._folder / f"batch-{number}.answers.jsonl", self._folder / f"batch-{number}.errors.jsonl"

    def _orders(self, number: int) -> list[str]:
        numbers = workload.single_numbers(self._options, number)
        told = {
            "seed": self._options.seed,
            "first": numbers.start,
            "end": numbers.stop,
            "step": numbers.step,
            "most-waiting": self._options.most_waiting,
            "journal": self.journal(number),
        }
        return [word for name, value in told.items() for word in (f"--{name}", str(value))]

    def start(self) -> None:
        """Everybody but the batch runs, which come one after the other."""
        for child in [*self.workers, *self.producers]:
            child.start()

    @property
    def batch(self) -> Child | None:
        """The batch whose turn it is; None: none is open now."""
        return next((child for child in self.batches[: self._begun] if child not in self._done), None)

    @property
    def producers_are_done(self) -> bool:
        return self._done.issuperset(self.producers)

    @property
    def has_handed_in_all(self) -> bool:
        return self._done.issuperset([*self.producers, *self.batches])

    def at_work(self, children: list[Child], *, grown_up: bool) -> list[Child]:
        """Those that could be hit now; `grown_up`: and that have had time to begin."""
        youngest_s = time.monotonic() - (AT_WORK_AFTER_S if grown_up else 0)
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

    def begin_batches(self, share_done: float) -> None:
        """They are spread over the run, so that blows at any moment find one."""
        if self.producers_are_done:
            share_done = 1.0
        while self._begun < len(self.batches) and share_done >= LAST_BATCH_AT * self._begun / len(self.batches):
            self._begun += 1

    def tend(self) -> None:
        now_s = time.monotonic()
        for child, wake_s in list(self._wake_at_s.items()):
            if now_s >= wake_s:
                del self._wake_at_s[child]
                # Who was stopped just before a call makes it now.
                with self.waking():
                    child.signal(signal.SIGCONT)
        batch = self.batch
        for child in [*self.workers, *self.producers, *([batch] if batch else [])]:
            if child not in self._done:
                self._look_after(child, now_s)

    def wake_all(self) -> None:
        for child in list(self._wake_at_s):
            self._wake_at_s[child] = 0.0
        self.tend()

    def end(self) -> None:
        """Nobody of ours stays behind, whatever happened. Workers get their grace."""
        everybody = [*self.workers, *self.producers, *self.batches]
        for child in everybody:
            if child.is_alive:
                child.signal(signal.SIGCONT)
                child.signal(signal.SIGTERM)
        end_s = time.monotonic() + self._options.grace_s + EXIT_MARGIN_S
        for child in everybody:
            child.end(max(0.0, end_s - time.monotonic()))

    def _look_after(self, child: Child, now_s: float) -> None:
        if child.is_alive:
            if child.must_end_by_s is not None and now_s > child.must_end_by_s:
                self.slow_exits.append(child.name)
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
            self.own_deaths.append(f"{child.name}: exit code {child.exit_code}")
        child.start()
