"""Groups: many jobs of a file that one message brought, run one after the other.

What is not begun goes back before long, so that slow answers spread over every slot of every worker and the end of a
file has no tail. A job that must wait, or be tried again, leaves its group and goes its own way.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.ledger.ledger import Ledger
from worker.runner import JobRunner, SendAgain, SendNow

# A job that takes so long is a slow one: the others of its group are better off elsewhere.
SLOW_S = 0.1
# However quick its jobs are, at the end of a file a group must not be what everybody waits for.
LONGEST_S = 1.0
LOOK_EVERY_S = 0.025

# Jobs, and the size of the messages in which they go.
SendGroups = Callable[[list[str], int], None]
SendLater = Callable[[str, timedelta], None]


class _Group:
    """The jobs of one message that are not begun."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self.jobs = deque(job_ids)
        self.begun = 0
        self.began_s = self.last_s = time.monotonic()

    def next(self) -> str | None:
        try:
            job_id = self.jobs.popleft()
        except IndexError:
            return None
        self.begun += 1
        self.last_s = time.monotonic()
        return job_id

    def is_slow(self, now_s: float) -> bool:
        return bool(self.jobs) and (now_s - self.last_s > SLOW_S or now_s - self.began_s > LONGEST_S)


class GroupRunner:
    """Runs groups, each in its caller's thread; one thread of its own hands back what they do not get to."""

    def __init__(
        self,
        ledger: Ledger,
        runner: JobRunner,
        send_now: Callable[[list[str]], None],
        send_later: SendLater,
        send_groups: SendGroups,
        stopping: threading.Event,
        log: FilteringBoundLogger,
    ) -> None:
        self._ledger = ledger
        self._runner = runner
        self._send_now = send_now
        self._send_later = send_later
        self._send_groups = send_groups
        self._stopping = stopping
        self._log = log
        self._groups: set[_Group] = set()
        self._lock = threading.Lock()
        self._some = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="groups", daemon=True).start()

    def run(self, job_ids: Sequence[str]) -> None:
        """Until every job of the group is brought a step further, or handed back."""
        group = _Group(job_ids)
        with self._lock:
            self._groups.add(group)
            self._some.set()
        try:
            while not self._stopping.is_set() and (job_id := group.next()) is not None:
                match self._runner.run(job_id):
                    case SendAgain(countdown=countdown):
                        self._send_later(job_id, countdown)
                    case SendNow():
                        self._send_now([job_id])
        finally:
            with self._lock:
                self._groups.discard(group)
            self._hand_back(group)

    def _watch(self) -> None:
        while True:
            self._some.wait()
            time.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
            with self._lock:
                slow = [group for group in self._groups if group.is_slow(now_s)]
                if not any(group.jobs for group in self._groups):
                    self._some.clear()
            for group in slow:
                self._hand_back(group)

    def _hand_back(self, group: _Group) -> None:
        """Send on what was not begun, in messages of what was done in the time."""
        rest: list[str] = []
        while group.jobs:
            try:
                rest.append(group.jobs.popleft())
            except IndexError:
                break
        if not rest:
            return
        try:
            queued = self._ledger.hand_back(rest, Lane.BULK)
            self._send_groups(queued, max(1, group.begun))
        except QueueUnavailable as error:
            # They are queued in the ledger, without a message: rescue finds them.
            self._log.warning("hand_back_failed", jobs=len(rest), error=str(error))
