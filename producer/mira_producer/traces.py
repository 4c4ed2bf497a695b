"""Spans of a producer: `send`, around the acceptance of jobs. Only loaded if traces are on."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mira_queue.ledger.records import NewJob
from mira_queue.runtime import span_export

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class SendSpans:
    """Records the spans of one client.

    An app that has configured OpenTelemetry exports them with its own spans. Otherwise, they are exported from here.
    """

    _own: TracerProvider | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def send(self, account: str, jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
        """Record the acceptance of jobs, as a child of the app's current span. Yield the jobs with its context."""
        attributes = span_export.messaging_attributes("send", account, jobs[0].lane.queue)
        if len(jobs) == 1:
            attributes["messaging.message.id"] = jobs[0].id
        else:
            attributes["messaging.batch.message_count"] = len(jobs)
        with span_export.recorded(self._tracer(), "send", SpanKind.PRODUCER, attributes):
            traceparent = span_export.traceparent_now()
            yield [replace(job, traceparent=traceparent) for job in jobs]

    def close(self) -> None:
        """Export the last spans."""
        if self._own is not None:
            span_export.close(self._own)

    def _tracer(self) -> Tracer:
        """Return the tracer. The app may configure OpenTelemetry after it has created the client."""
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):
            with self._lock:
                if self._own is None:
                    self._own = span_export.tracer_provider("mira-queue", span_export.exporting())
            provider = self._own
        return provider.get_tracer(span_export.SCOPE)


class IncomingContext:
    """ASGI middleware: what a request does is traced below the `traceparent` of its client."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._w3c = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = context.attach(self._w3c.extract(_headers(scope), context.Context()))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
