"""An endpoint: a route that checks the API key before it calls its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira_producer.gateway.context import Context
from mira_queue.contract.api_key import ApiKey, Scope

Handler = Callable[[Request, ApiKey], Awaitable[Response]]


def endpoint(context: Context, method: str, path: str, handler: Handler, scope: Scope | None = None) -> Route:
    """Return a route whose handler gets the request and the API key of its caller.

    By default, a GET needs a key with the scope READ, and other methods need SUBMIT.
    """
    needed = scope or (Scope.READ if method == "GET" else Scope.SUBMIT)

    async def handle(request: Request) -> Response:
        # Before the handler reads the body: with that, the request gets its identity (see retries/).
        request.state.caller = key = await context.access.caller(request, needed)
        return await handler(request, key)

    return Route(path, handle, methods=[method], name=f"{method} {path}")
