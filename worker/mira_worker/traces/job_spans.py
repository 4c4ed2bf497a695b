"""The span `process`: one attempt of one job, from its claim to what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, set_span_in_context

from mira_queue.contract.errors import RateLimited
from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.ledger.records import Lease
from mira_queue.runtime import span_export
from mira_worker.decision import Decision, Defer, Finish, Requeue
from mira_worker.traces.held_spans import HeldSpans, JobTraceIds, is_in_sample

OUTCOME = "mira.job.outcome"


class JobSpans:
    """Records the attempts of jobs. `ratio` is the share of the lines of files that is exported."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._held = HeldSpans(span_export.exporting())
        self._ids = JobTraceIds()
        # Every span is recorded: whether an attempt has failed is only known at its end.
        self.provider = span_export.tracer_provider(
            "mira-queue-worker", self._held, sampler=ALWAYS_ON, id_generator=self._ids
        )
        self.tracer = self.provider.get_tracer(span_export.SCOPE)

    @contextmanager
    def process(self, lease: Lease) -> Iterator[Span]:
        """Record an attempt. The span of a single job is a child of `send`, and linked to it; that of a line is linked.

        With a whole file in one trace, the trace would be too large for every tool. Therefore, each line has its own.
        """
        sent = span_export.span_context_of(lease.traceparent) if lease.traceparent else None
        is_child = sent is not None and not lease.group
        self._ids.set_job(lease.job_id)
        is_exported = self._is_sampled(lease, sent)
        try:
            with span_export.recorded(
                self.tracer,
                "process",
                SpanKind.CONSUMER,
                _attributes(lease),
                context=set_span_in_context(NonRecordingSpan(sent), Context()) if sent and is_child else Context(),
                links=[Link(sent)] if sent else [],
            ) as span:
                yield span
        finally:
            self._held.release(is_exported=is_exported or _has_failed(span))

    def _is_sampled(self, lease: Lease, sent: SpanContext | None) -> bool:
        if lease.group:
            return is_in_sample(lease.job_id, self._ratio)
        return sent is None or sent.trace_flags.sampled

    def close(self) -> None:
        span_export.close(self.provider)


def record_decision(span: Span, decision: Decision) -> None:
    """Add what follows from an attempt. A rate limit is no failure: the job waits."""
    match decision:
        case Finish(outcome=Completion()):
            span.set_attribute(OUTCOME, "succeeded")
        case Finish(outcome=Failure(code=code)):
            span.set_attributes({OUTCOME: "failed", "mira.job.code": code})
            span_export.fail(span, code)
        case Defer(wait=wait, error=error):
            wait_s = wait.total_seconds()
            span.set_attributes({OUTCOME: "waits", "mira.job.code": error.code, "mira.job.wait_s": wait_s})
            if not isinstance(error, RateLimited):
                span_export.fail(span, error.code)
        case Requeue():
            span.set_attribute(OUTCOME, "requeued")


def _has_failed(span: Span) -> bool:
    return isinstance(span, ReadableSpan) and span.status.status_code is StatusCode.ERROR


def _attributes(lease: Lease) -> dict[str, str | int]:
    found = span_export.messaging_attributes("process", lease.account, BULK_QUEUE if lease.group else QUEUE)
    found |= {"messaging.message.id": lease.job_id, "mira.job.attempt": lease.attempts + 1}
    if lease.group:
        found["mira.job.group"] = lease.group
    if lease.project:
        found["mira.job.project"] = lease.project
    return found
