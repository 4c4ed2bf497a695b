"""Errors as pages, for browsers."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from mira_producer.gateway.http.errors import ApiError
from mira_producer.page.rendering import render
from mira_producer.page.security import secured


def error_page(request: Request, error: ApiError) -> Response:
    """Return a page with the message of an error."""
    visitor = getattr(request.state, "visitor", None)
    request_id = getattr(request.state, "request_id", "")
    response = render(
        request,
        visitor,
        "error.html",
        error.status,
        error=error,
        phrase=HTTPStatus(error.status).phrase,
        request_id=request_id,
    )
    response.headers.update(error.headers)
    return secured(response)
