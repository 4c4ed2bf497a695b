"""Export of a process's spans to an OpenTelemetry collector: OTLP over HTTP, configured by the variables OTEL_*."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanContext, SpanKind, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from mira_queue.contract.names import queue_name

# Name of the instrumentation in exported spans.
SCOPE = "mira_queue"
# Without a collector, the last spans are lost after this time, and the process ends.
MAX_CLOSE_S = 3.0

_TRACEPARENT = "traceparent"
_W3C = TraceContextTextMapPropagator()


def exporting() -> SpanProcessor:
    """Return the processor that exports spans, in a thread of its own."""
    return BatchSpanProcessor(OTLPSpanExporter())


def tracer_provider(service: str, processor: SpanProcessor, **options: Any) -> TracerProvider:
    """Return a provider for one process. `service` is its name, unless OTEL_SERVICE_NAME is set."""
    resource = Resource.create()
    # The library's name for a process without one.
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    provider = TracerProvider(resource=resource, **options)
    provider.add_span_processor(processor)
    return provider


def close(provider: TracerProvider) -> None:
    """Export the spans that have ended, within MAX_CLOSE_S."""
    thread = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    thread.start()
    thread.join(MAX_CLOSE_S)


@contextmanager
def recorded(
    tracer: Tracer, name: str, kind: SpanKind, attributes: Mapping[str, str | int], **options: Any
) -> Iterator[Span]:
    """Record a span. If an exception ends it, it gets the exception's class. The message may quote a prompt."""
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False, **options
    ) as span:
        try:
            yield span
        except BaseException as error:
            fail(span, type(error).__name__)
            raise


def messaging_attributes(operation: str, account: str, queue: str) -> dict[str, str | int]:
    """Return the attributes of an operation on a queue, by the conventions for messaging."""
    return {
        "messaging.system": "mira_queue",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue_name(account, queue),
    }


def fail(span: Span, code: str, message: str | None = None) -> None:
    """Mark a span as failed. The message must not quote a prompt."""
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR, message))


def traceparent_now() -> str:
    """Return the W3C form of the current span's context, or an empty string without a span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_TRACEPARENT, "")


def span_context_of(traceparent: str) -> SpanContext | None:
    """Return the context of a span from its W3C form. None if there is none, or if it is not valid."""
    if not traceparent:
        return None
    context = get_current_span(_W3C.extract({_TRACEPARENT: traceparent})).get_span_context()
    return context if context.is_valid else None
