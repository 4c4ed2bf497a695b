"""`/openapi.json`: the description of this API, without an API key."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_producer.gateway.description.document import document
from mira_producer.gateway.endpoints import Endpoint, open_endpoint
from mira_producer.gateway.http.threads import in_thread


def routes(_: Context) -> list[BaseRoute]:
    described = Described("get_openapi", "This document.", {"type": "object"})
    return [open_endpoint("/openapi.json", _Document().show, described)]


class _Document:
    """The document, which is written when it is first wanted."""

    def __init__(self) -> None:
        self._written = b""

    async def show(self, request: Request) -> Response:
        if not self._written:
            endpoints = [route for route in request.app.routes if isinstance(route, Endpoint)]
            self._written = orjson.dumps(await in_thread(document, endpoints))
        return Response(self._written, media_type="application/json")
