"""The account's gate as one worker process sees it: nothing leaves while it is closed; then one probe goes first."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease

# While a probe is out, others look this often whether it has come back.
PROBE_POLL = timedelta(milliseconds=200)
# A wait is slept in pieces no longer than this, so that a gate that was opened by hand is noticed.
LONGEST_SLEEP_S = 30.0
# The answer's way here took time; the server counts from when it sent it. This covers that and the clocks' grain.
MARGIN = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call; `is_probe`: the first one after the gate was closed."""

    is_probe: bool


class Gate:
    """One account's gate. `stopping` ends every wait at once."""

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        *,
        probe_lease: timedelta,
        stopping: threading.Event,
        log: FilteringBoundLogger,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._probe_lease = probe_lease
        self._stopping = stopping
        self._log = log

    def wait_for_pass(self, lease: Lease) -> Pass | None:
        """Block until a call may leave. None: the worker stops, or the lease was lost; make no call."""
        while not self._stopping.is_set():
            permit = self._ledger.begin(lease, self._account, probe_lease=self._probe_lease, probe_poll=PROBE_POLL)
            match permit.verdict:
                case "go" | "probe":
                    return Pass(permit.verdict == "probe")
                case "lost":
                    return None
            self._stopping.wait(min(permit.wait_ms / 1000, LONGEST_SLEEP_S))
        return None

    def caller_gone(self, job_id: str) -> None:
        """This job's call will bring no answer; if it was the probe, the next call is."""
        if self._ledger.free_probe(self._account, job_id):
            self._log.info("probe_lost", account=self._account, job_id=job_id)

    def refused(self, wait: timedelta) -> None:
        """The API said to wait: so does everybody who uses this account."""
        closed = self._ledger.close_gate(self._account, wait + MARGIN)
        self._log.warning("gate_closed", account=self._account, wait_s=round(closed.total_seconds(), 3))

    def answered(self, leave: Pass) -> None:
        """A call came back, and not with a refusal."""
        if leave.is_probe:
            self._ledger.probe_answered(self._account)
            self._log.info("gate_opened", account=self._account)
