"""Forecast of when an open job can have changed, from the state of its account."""

from __future__ import annotations

import time
from collections.abc import Callable

from mira_queue.contract.states import JobStatus
from mira_queue.ledger.accounts import PaceView

MIN_POLL_S, MAX_POLL_S = 1.0, 120.0
# Many clients poll for jobs of the same account.
CACHE_S = 1.0


class PollForecast:
    """Forecasts of one process. `read` returns the state of an account; it blocks."""

    def __init__(self, read: Callable[[str], PaceView]) -> None:
        self._read = read
        self._known: dict[str, tuple[PaceView, float]] = {}

    def poll_after_s(self, job: JobStatus) -> float:
        """Return after which time a client should ask again: when the account, and the job, may call again."""
        view, read_s = self._known.get(job.account, (None, 0.0))
        age_s = time.monotonic() - read_s
        if view is None or age_s >= CACHE_S:
            view, age_s = self._read(job.account), 0.0
            self._known[job.account] = view, time.monotonic()
        account_s = max(view.open_for, view.next_in).total_seconds() - age_s
        job_s = (job.due_ms - view.now_ms) / 1000 - age_s if job.due_ms else 0.0
        return min(MAX_POLL_S, max(MIN_POLL_S, account_s, job_s))
