"""Groups: jobs of a file that one message carries, run one after the other.

If other workers are idle, or a single job waits for a slot, the jobs that have not started return to the queue: slow
calls spread over all slots of all workers, single jobs run in between, and a file does not end with one slow group. A
job that has to wait leaves its group.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.ledger.leases import Claimed
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from mira_worker.runner import JobRunner, Next, SendAgain, SendNow

# A job that takes longer than this is slow: the other jobs of its group should run elsewhere.
SLOW_S = 0.1
# However quick its jobs are, a group must not delay the end of its file for longer than this.
MAX_GROUP_S = 1.0
# While other messages wait, no idle worker could take the requeued jobs. But rescue considers a job lost that has been
# in no message for MIRA_RESEND_AFTER (10 s). This includes the jobs of messages that wait here for this group.
STUCK_S = 2.0
CHECK_EVERY_S = 0.025
# While each job takes less than this, the next ones are claimed together, which saves a round trip for each.
QUICK_S = 0.02
MAX_AHEAD = 8

Item = TypeVar("Item")

# Each sends jobs of an account. SendGroups sends them in messages of this size.
SendMessages = Callable[[str, list[str]], None]
SendGroups = Callable[[str, list[str], int], None]
SendLater = Callable[[str, str, timedelta], None]


class _Group:
    """Jobs of one message that have not started. While calls are quick, a few of them are claimed ahead."""

    def __init__(self, runner: JobRunner, job_ids: Sequence[str]) -> None:
        self.runner = runner
        self.jobs = deque(job_ids)
        self.claimed: deque[tuple[str, Claimed]] = deque()
        self.ahead = 1
        self.started = 0
        self.started_s = self.last_s = time.monotonic()

    def next(self) -> tuple[str, Claimed] | None:
        """Return the next claimed job, or None."""
        now_s = time.monotonic()
        if self.started:
            self.ahead = min(MAX_AHEAD, self.ahead * 2) if now_s - self.last_s < QUICK_S else 1
        self.last_s = now_s
        with suppress(IndexError):
            job = self.claimed.popleft()
            self.started += 1
            return job
        return None

    def to_claim(self) -> list[str]:
        return _taken(self.jobs, self.ahead)

    def is_slow(self, now_s: float) -> bool:
        return self.has_waiting and (now_s - self.last_s > SLOW_S or now_s - self.started_s > MAX_GROUP_S)

    def is_stuck(self, now_s: float) -> bool:
        return self.has_waiting and now_s - self.started_s > STUCK_S

    @property
    def has_waiting(self) -> bool:
        """Return True if jobs have not started."""
        return bool(self.jobs or self.claimed)


@dataclass(slots=True, eq=False)
class GroupRunner:
    """Runs each group in its caller's thread. A thread of its own requeues the jobs of slow groups.

    `single_waits` returns True if a message with a single job waits for a slot of this process.
    """

    _ledger: Ledger
    _runners: Mapping[str, JobRunner]
    _send_now: SendMessages
    _send_later: SendLater
    _send_groups: SendGroups
    _single_waits: Callable[[], bool]
    _stopping: threading.Event
    _log: FilteringBoundLogger
    _groups: set[_Group] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _some: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._watch, name="groups", daemon=True).start()

    def run(self, runner: JobRunner, job_ids: Sequence[str]) -> None:
        """Run the jobs of a group. Return when all have run or returned to the queue."""
        group = _Group(runner, job_ids)
        with self._lock:
            self._groups.add(group)
            self._some.set()
        try:
            while not self._stopping.is_set():
                job = group.next()
                if job is not None:
                    self._send(runner, job[0], runner.run_claimed(*job))
                elif job_ids := group.to_claim():
                    group.claimed.extend(zip(job_ids, runner.claim(job_ids), strict=True))
                else:
                    return
        finally:
            with self._lock:
                self._groups.discard(group)
            self._requeue(group)

    def _watch(self) -> None:
        while True:
            self._some.wait()
            time.sleep(CHECK_EVERY_S)
            now_s = time.monotonic()
            with self._lock:
                slow = [group for group in self._groups if group.is_slow(now_s)]
                if not any(group.has_waiting for group in self._groups):
                    self._some.clear()
            if slow and self._only_groups_wait():
                slow = [group for group in slow if group.is_stuck(now_s)]
            for group in slow:
                self._requeue(group)

    def _only_groups_wait(self) -> bool:
        """Return True if groups wait in the queue, which idle workers can take, and no single job waits for a slot."""
        if self._single_waits():
            return False
        try:
            return self._ledger.lanes_with_messages(self._runners) == {Lane.BULK}
        except QueueUnavailable:
            return True

    def _requeue(self, group: _Group) -> None:
        """Requeue the jobs that have not started, in messages as large as the number of jobs that have started."""
        size = max(1, group.started)
        for job_id, claimed in _taken(group.claimed):
            if isinstance(claimed, Lease):
                self._send(group.runner, job_id, group.runner.release(claimed))
        rest = _taken(group.jobs)
        if not rest:
            return
        try:
            account = group.runner.account
            self._send_groups(account, self._ledger.requeue(account, rest, Lane.BULK), size)
        except QueueUnavailable as error:
            # They are queued in the ledger, without a message: rescue finds them.
            self._log.warning("requeue_failed", jobs=len(rest), error=str(error))

    def _send(self, runner: JobRunner, job_id: str, next_: Next) -> None:
        match next_:
            case SendAgain(countdown=countdown):
                self._send_later(runner.account, job_id, countdown)
            case SendNow():
                self._send_now(runner.account, [job_id])


def _taken(jobs: deque[Item], limit: int | None = None) -> list[Item]:
    """Take up to `limit` jobs. Another thread may take jobs at the same time."""
    taken: list[Item] = []
    with suppress(IndexError):
        while limit is None or len(taken) < limit:
            taken.append(jobs.popleft())
    return taken
