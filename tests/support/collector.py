"""An OpenTelemetry collector for tests: it receives spans over HTTP, and decodes them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.raw_server import RawServer, Request, response
from tests.support.waiting import wait_until

# Variables of a process whose spans arrive soon after they have ended.
QUICK_EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@dataclass(frozen=True, slots=True)
class Received:
    """A span. `links` has the IDs of the spans that it is linked to."""

    name: str
    kind: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    links: list[str]
    attributes: dict[str, Any]
    is_error: bool
    message: str

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


@dataclass(slots=True)
class Collector:
    """What has arrived. `url` is the value of OTEL_EXPORTER_OTLP_ENDPOINT."""

    server: RawServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def variables(self) -> dict[str, str]:
        """Variables of a process that exports its spans here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, **QUICK_EXPORT}

    @property
    def spans(self) -> list[Received]:
        found = []
        for request in list(self.server.requests):
            is_packed = request.headers.get("content-encoding") == "gzip"
            body = gzip.decompress(request.body) if is_packed else request.body
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = next(
                    each.value.string_value for each in of_resource.resource.attributes if each.key == "service.name"
                )
                found += [_received(span, service) for scope in of_resource.scope_spans for span in scope.spans]
        return found

    def named(self, name: str, **attributes: Any) -> list[Received]:
        """Return the spans of this name with these attributes, whose dots are written as two underscores."""
        wanted = {each.replace("__", "."): value for each, value in attributes.items()}
        return [span for span in self.spans if span.name == name and wanted.items() <= span.attributes.items()]

    def wait_for(self, name: str, count: int = 1, **attributes: Any) -> list[Received]:
        """Return at least `count` of these spans, as soon as they have arrived."""

        def arrived() -> list[Received]:
            found = self.named(name, **attributes)
            return found if len(found) >= count else []

        return wait_until(f"{count} spans {name} {attributes}", arrived)


@contextmanager
def running_collector() -> Iterator[Collector]:
    def accept(request: Request, connection: Any) -> None:
        assert request.line.startswith("POST /v1/traces "), request.line
        connection.sendall(response(200, b"", "Content-Type: application/x-protobuf"))

    with RawServer(accept) as server:
        yield Collector(server)


def _received(span: trace_pb2.Span, service: str) -> Received:
    return Received(
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        [link.span_id.hex() for link in span.links],
        {each.key: _value(each.value) for each in span.attributes},
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        span.status.message,
    )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind or "string_value")
    return [_value(each) for each in found.values] if kind == "array_value" else found
