"""The span `process`: one attempt of one job, from its claim to what follows from it."""

from __future__ import annotations

import threading
import uuid

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, set_span_in_context

from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.ledger.records import Lease
from mira_queue.runtime import span_export
from mira_worker.decision import Decision, Defer, Finish, Requeue
from mira_worker.traces.attempt import Attempt

OUTCOME, CODE = "mira.job.outcome", "mira.job.code"
# Bits of a trace ID that are random in every ID of a job: the other ones have the version of the UUID.
_RANDOM = (1 << 56) - 1


class JobTraceIds(RandomIdGenerator):
    """Gives a trace the ID of its job. All attempts of a job, in whatever process, have one trace."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def set_job(self, job_id: str) -> None:
        """Set the job of the calling thread's next trace."""
        self._of_thread.trace_id = uuid.UUID(job_id).int

    def generate_trace_id(self) -> int:
        trace_id: int = self._of_thread.trace_id
        return trace_id


class ProcessSpans:
    """Writes the spans of attempts. `ratio` is the share of the lines of files whose spans are exported."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._ids = JobTraceIds()
        # Whether a span is exported is decided before it is created.
        options = {"sampler": ALWAYS_ON, "id_generator": self._ids}
        self.provider: TracerProvider = span_export.tracer_provider(
            "mira-queue-worker", span_export.exporting(), **options
        )
        self._tracer = self.provider.get_tracer(span_export.SCOPE)

    def is_sampled(self, lease: Lease) -> bool:
        """Return True if the attempts of a job are exported even if they do not fail."""
        if lease.group:
            return is_in_sample(lease.job_id, self._ratio)
        sent = span_export.span_context_of(lease.traceparent)
        return sent is None or sent.trace_flags.sampled

    def span_of(self, attempt: Attempt) -> Span:
        """Return the span of an attempt, which began earlier.

        That of a single job is a child of `send`, and linked to it. That of a line is only linked to it: with a whole
        file in one trace, the trace would be too large for every tool.
        """
        if attempt.span is None:
            lease = attempt.lease
            sent = span_export.span_context_of(lease.traceparent)
            is_child = sent is not None and not lease.group
            self._ids.set_job(lease.job_id)
            attempt.span = self._tracer.start_span(
                "process",
                context=set_span_in_context(NonRecordingSpan(sent), Context()) if sent and is_child else Context(),
                kind=SpanKind.CONSUMER,
                attributes=_attributes(lease),
                links=[Link(sent)] if sent else [],
                start_time=attempt.began_ns,
            )
        return attempt.span

    def end(self, attempt: Attempt, code: str) -> None:
        """End an attempt. `code` is not empty if it has failed."""
        if not code and attempt.span is None and not self.is_sampled(attempt.lease):
            return
        span = self.span_of(attempt)
        if attempt.decision is not None:
            _add_decision(span, attempt.decision)
        if code:
            span_export.fail(span, code)
        span.end()


def is_in_sample(job_id: str, ratio: float) -> bool:
    """Return True for this share of all jobs, and always for the same ones."""
    return (uuid.UUID(job_id).int & _RANDOM) < ratio * (_RANDOM + 1)


def _add_decision(span: Span, decision: Decision) -> None:
    match decision:
        case Finish(outcome=Completion()):
            span.set_attribute(OUTCOME, "succeeded")
        case Finish(outcome=Failure(code=code)):
            span.set_attributes({OUTCOME: "failed", CODE: code})
        case Defer(wait=wait, error=error):
            span.set_attributes({OUTCOME: "waits", CODE: error.code, "mira.job.wait_s": wait.total_seconds()})
        case Requeue():
            span.set_attribute(OUTCOME, "requeued")


def _attributes(lease: Lease) -> dict[str, str | int]:
    found = span_export.messaging_attributes("process", lease.account, BULK_QUEUE if lease.group else QUEUE)
    found |= {"messaging.message.id": lease.job_id, "mira.job.attempt": lease.attempts + 1}
    if lease.group:
        found["mira.job.group"] = lease.group
    if lease.project:
        found["mira.job.project"] = lease.project
    return found
