"""An endpoint: a route that checks the API key before it calls its handler, and that describes itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import Described
from mira_queue.contract.api_key import ApiKey, Scope

Handler = Callable[[Request, ApiKey], Awaitable[Response]]
OpenHandler = Callable[[Request], Awaitable[Response]]


class Endpoint(Route):
    """Route with its description. The document of the API has those that are described."""

    def __init__(
        self, method: str, path: str, handler: OpenHandler, described: Described | None, *, has_key: bool
    ) -> None:
        super().__init__(path, handler, methods=[method], name=f"{method} {path}")
        self.method = method
        self.described = described
        self.has_key = has_key


def endpoint(
    context: Context,
    method: str,
    path: str,
    handler: Handler,
    described: Described | None = None,
    *,
    scope: Scope | None = None,
) -> Endpoint:
    """Return a route whose handler gets the request and the API key of its caller.

    By default, a GET needs a key with the scope READ, and other methods need SUBMIT.
    """
    needed = scope or (Scope.READ if method == "GET" else Scope.SUBMIT)

    async def handle(request: Request) -> Response:
        # Before the handler reads the body: with that, the request gets its identity (see retries/).
        request.state.caller = key = await context.access.caller(request, needed)
        return await handler(request, key)

    return Endpoint(method, path, handle, described, has_key=True)


def open_endpoint(path: str, handler: OpenHandler, described: Described) -> Endpoint:
    """Return a route for GET that needs no API key."""
    return Endpoint("GET", path, handler, described, has_key=False)
