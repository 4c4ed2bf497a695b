"""The overview: what runs, what waits and why, and what it costs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.page.rendering import render
from mira_producer.page.views import view
from mira_producer.page.visitor import Visitor


def routes(context: Context) -> list[BaseRoute]:
    async def overview(request: Request, visitor: Visitor) -> Response:
        return render(request, visitor, "overview.html")

    return [view(context, "/", overview)]
