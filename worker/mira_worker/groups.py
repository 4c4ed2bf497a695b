"""Groups: many jobs of a file that one message brought, run one after the other.

When others have nothing to do, or wait for a slot, what is not begun goes back before long: slow answers spread over
every slot of every worker, a single job gets in between, and the end of a file has no tail. A job that must wait, or be
tried again, leaves its group and goes its own way.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.ledger.leases import Claimed
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from mira_worker.runner import JobRunner, Next, SendAgain, SendNow

# A job that takes so long is a slow one: the others of its group are better off elsewhere.
SLOW_S = 0.1
# However quick its jobs are, at the end of a file a group must not be what everybody waits for.
LONGEST_S = 1.0
# While other messages wait, nobody is idle who could take what is handed back; but rescue takes a job for lost that has
# been in no message for MIRA_RESEND_AFTER (10 s), those of messages that wait here for this one included.
STUCK_S = 2.0
LOOK_EVERY_S = 0.025
# While each job takes less than this, the next ones are claimed together: a round trip saved for each.
QUICK_S = 0.02
MOST_AHEAD = 8

Item = TypeVar("Item")

# Jobs, and the size of the messages in which they go.
SendGroups = Callable[[list[str], int], None]
SendLater = Callable[[str, timedelta], None]


class _Group:
    """The jobs of one message that are not begun: claimed already, a few ahead while answers are quick, or not yet."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self.jobs = deque(job_ids)
        self.claimed: deque[tuple[str, Claimed]] = deque()
        self.ahead = 1
        self.begun = 0
        self.began_s = self.last_s = time.monotonic()

    def next(self) -> tuple[str, Claimed] | None:
        """The next claimed job, if there is one."""
        now_s = time.monotonic()
        if self.begun:
            self.ahead = min(MOST_AHEAD, self.ahead * 2) if now_s - self.last_s < QUICK_S else 1
        self.last_s = now_s
        with suppress(IndexError):
            job = self.claimed.popleft()
            self.begun += 1
            return job
        return None

    def to_claim(self) -> list[str]:
        return _emptied(self.jobs, self.ahead)

    def is_slow(self, now_s: float) -> bool:
        return self.waits and (now_s - self.last_s > SLOW_S or now_s - self.began_s > LONGEST_S)

    def is_stuck(self, now_s: float) -> bool:
        return self.waits and now_s - self.began_s > STUCK_S

    @property
    def waits(self) -> bool:
        """Is there something that is not begun?"""
        return bool(self.jobs or self.claimed)


class GroupRunner:
    """Runs groups, each in its caller's thread; one thread of its own hands back what they do not get to.

    `single_waits`: has this process a message of one job that waits for a slot?
    """

    def __init__(
        self,
        ledger: Ledger,
        runner: JobRunner,
        send_now: Callable[[list[str]], None],
        send_later: SendLater,
        send_groups: SendGroups,
        single_waits: Callable[[], bool],
        stopping: threading.Event,
        log: FilteringBoundLogger,
    ) -> None:
        self._ledger = ledger
        self._runner = runner
        self._send_now = send_now
        self._send_later = send_later
        self._send_groups = send_groups
        self._single_waits = single_waits
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
            while not self._stopping.is_set():
                job = group.next()
                if job is not None:
                    self._send(job[0], self._runner.run_claimed(*job))
                elif job_ids := group.to_claim():
                    group.claimed.extend(zip(job_ids, self._runner.claim(job_ids), strict=True))
                else:
                    return
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
                if not any(group.waits for group in self._groups):
                    self._some.clear()
            if slow and self._others_have_groups_only():
                slow = [group for group in slow if group.is_stuck(now_s)]
            for group in slow:
                self._hand_back(group)

    def _others_have_groups_only(self) -> bool:
        """There is work for whoever is idle, and none of it is a single job, which may need a slot of ours."""
        if self._single_waits():
            return False
        try:
            bulk, *singles = (self._ledger.head(lane) for lane in (Lane.BULK, Lane.FIRST, Lane.NORMAL))
        except QueueUnavailable:
            return True
        return bulk is not None and not any(singles)

    def _hand_back(self, group: _Group) -> None:
        """Send on what was not begun, in messages of what was done in the time."""
        begun = max(1, group.begun)
        for job_id, claimed in _emptied(group.claimed):
            if isinstance(claimed, Lease):
                self._send(job_id, self._runner.give_back(claimed))
        rest = _emptied(group.jobs)
        if not rest:
            return
        try:
            self._send_groups(self._ledger.requeue(rest, Lane.BULK), begun)
        except QueueUnavailable as error:
            # They are queued in the ledger, without a message: rescue finds them.
            self._log.warning("hand_back_failed", jobs=len(rest), error=str(error))

    def _send(self, job_id: str, what: Next) -> None:
        match what:
            case SendAgain(countdown=countdown):
                self._send_later(job_id, countdown)
            case SendNow():
                self._send_now([job_id])


def _emptied(jobs: deque[Item], most: int | None = None) -> list[Item]:
    """Take jobs out; somebody else may be taking them at the same time."""
    taken: list[Item] = []
    with suppress(IndexError):
        while most is None or len(taken) < most:
            taken.append(jobs.popleft())
    return taken
