"""The span of one HTTP request: its name is POST, by the conventions for HTTP clients."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from opentelemetry.trace import SpanKind, Tracer

from mira_queue.contract.endpoint import completions_url
from mira_queue.runtime.span_export import fail, recorded
from mira_worker.transport import HttpResponse, NoResponse, OnStream, Transport


class TracedTransport:
    """Sends calls as another transport does, and records a span for each."""

    def __init__(self, transport: Transport, base: str, tracer: Tracer) -> None:
        self._transport = transport
        self.redact = transport.redact
        self._tracer = tracer
        parts = urlsplit(completions_url(base))
        self._attributes = {
            "http.request.method": "POST",
            # A query may hold anything.
            "url.full": urlunsplit(parts._replace(query="")),
            **server_attributes(base),
        }

    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse | NoResponse:
        """Send one request body."""
        with recorded(self._tracer, "POST", SpanKind.CLIENT, self._attributes) as span:
            response = self._transport.post(body, on_stream)
            arrived = response.begun if isinstance(response, NoResponse) else response
            if arrived is not None:
                span.set_attribute("http.response.status_code", arrived.status)
            if isinstance(response, NoResponse):
                fail(span, response.error.code)
            elif response.status >= 400:
                fail(span, str(response.status))
            return response


def server_attributes(base: str) -> dict[str, str | int]:
    """Return the address and the port of a base URL."""
    parts = urlsplit(base)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}
