"""Records of a call that has ended: its log line, whose fields docs/logs.md lists, and its entry in a timeline."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.outcome import Completion
from mira_queue.contract.timeline import CallRecord
from mira_queue.ledger.records import Lease
from mira_worker.decision import Decision, Defer
from mira_worker.pacing.waiting_line import HeldPermit
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited
from mira_worker.transport import HttpResponse, NoResponse


def call_record(held: HeldPermit, response: HttpResponse | NoResponse, meaning: Meaning) -> CallRecord:
    """Return a call as the timeline of its job has it."""
    return CallRecord(
        held.permit.at_ms,
        response.status if isinstance(response, HttpResponse) else 0,
        response.latency_ms,
        "" if isinstance(meaning, Completion) else meaning.error.code,
        held.waited_ms,
        held.waited_for,
    )


def log_attempt(
    log: FilteringBoundLogger,
    lease: Lease,
    response: HttpResponse | NoResponse,
    meaning: Meaning,
    decision: Decision,
    message: str,
) -> None:
    """Log the end of a call. `message` is the server's, without the prompt."""
    log = log.bind(
        job_id=lease.job_id,
        group=lease.group or None,
        attempt=lease.attempts + 1,
        status=response.status if isinstance(response, HttpResponse) else None,
        latency_ms=response.latency_ms,
    )
    wait_s = decision.wait.total_seconds() if isinstance(decision, Defer) else None
    match meaning:
        case Completion():
            log.info("attempt", outcome="succeeded")
        case Failed(error=error):
            log.warning("attempt", outcome="failed", code=error.code, message=message)
        case RateLimited(error=error, retry_after=retry_after):
            log.warning(
                "attempt",
                outcome="rate_limited",
                code=error.code,
                wait_s=wait_s,
                retry_after_remark=retry_after.remark,
                message=message,
            )
        case Fault(error=error, may_be_billed=may_be_billed):
            log.warning(
                "attempt",
                outcome="fault",
                code=error.code,
                wait_s=wait_s,
                message=message,
                may_be_billed=may_be_billed,
            )
