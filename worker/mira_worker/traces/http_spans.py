"""The span of one HTTP request: its name is POST, by the conventions for HTTP clients."""

from __future__ import annotations

import time
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from mira_queue.contract.endpoint import completions_url
from mira_queue.runtime.span_export import fail
from mira_worker.traces.attempt import CurrentAttempt, HttpRequest
from mira_worker.transport import HttpResponse, NoResponse, OnStream, Transport


class TimedTransport:
    """Sends calls as another transport does, and adds each to the attempt that it belongs to."""

    def __init__(self, transport: Transport, current: CurrentAttempt) -> None:
        self._transport = transport
        self._current = current
        self.redact = transport.redact

    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse | NoResponse:
        """Send one request body."""
        began_ns = time.time_ns()
        response = self._transport.post(body, on_stream)
        if self._current.attempt is not None:
            self._current.attempt.request = HttpRequest(began_ns, time.time_ns(), response)
        return response


class HttpSpans:
    """Writes the spans of requests to one base."""

    def __init__(self, tracer: Tracer, base: str) -> None:
        self._tracer = tracer
        parts = urlsplit(completions_url(base))
        self._attributes = {
            "http.request.method": "POST",
            # A query may hold anything.
            "url.full": urlunsplit(parts._replace(query="")),
            **server_attributes(base),
        }

    def write(self, request: HttpRequest, context: Context) -> None:
        """Write the span of a request. Its parent is that of the context."""
        attributes, start_ns = self._attributes, request.began_ns
        span = self._tracer.start_span("POST", context, SpanKind.CLIENT, attributes, start_time=start_ns)
        response = request.response
        arrived = response.begun if isinstance(response, NoResponse) else response
        if arrived is not None:
            span.set_attribute("http.response.status_code", arrived.status)
        if isinstance(response, NoResponse):
            fail(span, response.error.code)
        elif response.status >= 400:
            fail(span, str(response.status))
        span.end(request.ended_ns)


def server_attributes(base: str) -> dict[str, str | int]:
    """Return the address and the port of a base URL."""
    parts = urlsplit(base)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}
