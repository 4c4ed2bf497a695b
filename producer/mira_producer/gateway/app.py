"""The application: a table of resources, and the layers around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from anyio import create_task_group, sleep
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from mira_producer.client import TRACES
from mira_producer.gateway import health, metrics_endpoints, model_endpoints, openapi_endpoint
from mira_producer.gateway.batches import batch_endpoints
from mira_producer.gateway.context import Context
from mira_producer.gateway.files import file_endpoints, sweep, upload_endpoints
from mira_producer.gateway.http.errors import ApiError, translated
from mira_producer.gateway.http.limits import AllowedHosts
from mira_producer.gateway.http.request_ids import RequestIds
from mira_producer.gateway.http.responses import error_response
from mira_producer.gateway.jobs import completion_endpoints, job_endpoints, response_endpoints
from mira_producer.gateway.retries import recognized_retries as retries
from mira_producer.gateway.webhooks import webhook_deliveries, webhook_endpoints, webhook_task
from mira_producer.page.error_page import error_page
from mira_producer.page.routes import routes as page_routes
from mira_producer.page.subpath import Subpath
from mira_producer.page.views import is_for_browser
from mira_queue.contract.errors import MiraQueueError
from mira_queue.runtime.traces import load_traces

# One line for each resource.
RESOURCES: tuple[Callable[[Context], list[BaseRoute]], ...] = (
    health.routes,
    metrics_endpoints.routes,
    openapi_endpoint.routes,
    file_endpoints.routes,
    upload_endpoints.routes,
    batch_endpoints.routes,
    completion_endpoints.routes,
    response_endpoints.routes,
    job_endpoints.routes,
    model_endpoints.routes,
    webhook_endpoints.routes,
    webhook_deliveries.routes,
    page_routes,
)
# Tasks that run as long as the gateway. Each handles the errors that it expects.
BACKGROUND: tuple[Callable[[Context], Coroutine[Any, Any, None]], ...] = (
    sweep.run,
    retries.run,
    webhook_task.run,
)
# A task that has failed begins again after this.
RESTART_AFTER_S = 5.0

_MESSAGES = {404: ("no such endpoint", "unknown_url"), 405: ("this endpoint has no such method", "method_not_allowed")}


def build_app(context: Context) -> Starlette:
    """Return the ASGI application of a gateway."""
    traces = load_traces(context.settings, TRACES)
    app = Starlette(
        routes=[route for routes in RESOURCES for route in routes(context)],
        middleware=[
            *([Middleware(traces.IncomingContext)] if traces else []),
            Middleware(Subpath, page_url=context.settings.page_url),
            Middleware(RequestIds, log=context.log, respond=_response),
            Middleware(AllowedHosts, hosts=context.hosts),
            Middleware(retries.RecognizedRetries, ledger=context.queue.ledger, requests=context.open_requests),
        ],
        lifespan=lambda _: _background(context),
        exception_handlers={ApiError: _respond, MiraQueueError: _respond, HTTPException: _respond},
    )
    # A redirect of a POST loses its body, and an SDK that got the path wrong should learn it.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _background(context: Context) -> AsyncIterator[None]:
    async with create_task_group() as group:
        for task in BACKGROUND:
            group.start_soon(_lasting, task, context)
        yield
        group.cancel_scope.cancel()


async def _lasting(task: Callable[[Context], Coroutine[Any, Any, None]], context: Context) -> None:
    """Run a task until the gateway stops. A bug in one task must not end the others, and with them the gateway."""
    while True:
        try:
            await task(context)
        except Exception:
            context.log.exception("background_task_failed", task=task.__module__)
        await sleep(RESTART_AFTER_S)


async def _respond(request: Request, error: Exception) -> Response:
    """Return the response for an error of a handler, or of the router."""
    if isinstance(error, HTTPException):
        headers = {"allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
        message, code = _MESSAGES.get(error.status_code, (error.detail, None))
        where = f"{message}: {request.method} {request.url.path[:200]}"
        error = ApiError(error.status_code, where, code=code, headers=headers)
    elif isinstance(error, MiraQueueError):
        found = translated(error)
        if found is None:
            raise error
        error = found
    assert isinstance(error, ApiError)
    return _response(request, error)


def _response(request: Request, error: ApiError) -> Response:
    """Return an error as a page for a browser, or in OpenAI's format."""
    return error_page(request, error) if is_for_browser(request) else error_response(error)


def _methods(request: Request) -> list[str]:
    """Return the methods of the request's path. Starlette names those of one route, and each has one method."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    path = next(route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in routes if route.path == path for method in route.methods or ()})
