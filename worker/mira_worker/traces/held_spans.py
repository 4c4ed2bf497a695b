"""Spans of an attempt, held back until it is known whether it has failed. Failed attempts are always exported."""

from __future__ import annotations

import threading
import uuid

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

# Bits of a trace ID that are random in every ID of a job: the other ones have the version of the UUID.
_RANDOM = (1 << 56) - 1


class HeldSpans(SpanProcessor):
    """Holds the spans of each thread. An attempt runs in one thread, from its first span to its last."""

    def __init__(self, exporting: SpanProcessor) -> None:
        self._exporting = exporting
        self._of_thread = threading.local()

    def on_end(self, span: ReadableSpan) -> None:
        self._held.append(span)

    def release(self, *, is_exported: bool) -> None:
        """Export the spans that the calling thread holds, or forget them."""
        for span in self._held if is_exported else ():
            self._exporting.on_end(span)
        self._held.clear()

    def shutdown(self) -> None:
        self._exporting.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporting.force_flush(timeout_millis)

    @property
    def _held(self) -> list[ReadableSpan]:
        try:
            held: list[ReadableSpan] = self._of_thread.spans
        except AttributeError:
            held = self._of_thread.spans = []
        return held


class JobTraceIds(RandomIdGenerator):
    """Gives a trace the ID of its job. All attempts of a job, in whatever process, have one trace."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def set_job(self, job_id: str) -> None:
        """Set the job of the calling thread's next trace."""
        self._of_thread.trace_id = trace_id_of(job_id)

    def generate_trace_id(self) -> int:
        trace_id: int = self._of_thread.trace_id
        return trace_id


def trace_id_of(job_id: str) -> int:
    """Return the trace ID of a job: its UUID."""
    return uuid.UUID(job_id).int


def is_in_sample(job_id: str, ratio: float) -> bool:
    """Return True for this share of all jobs, and always the same jobs."""
    return (trace_id_of(job_id) & _RANDOM) < ratio * (_RANDOM + 1)
