"""The outermost layer: every response has `x-request-id`, every request has a log line, and no exception escapes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from mira_producer.gateway.http.errors import ApiError, server_error
from mira_queue.contract.unicode import printable

HEADER = b"x-request-id"
MAX_LOGGED_PATH = 200
# Checks of load balancers, several per second.
QUIET_PATHS = ("/healthz", "/readyz")


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


class RequestIds:
    """Middleware. A handler finds the id in `request.state.request_id`.

    `respond` returns the response for an exception that no handler expects.
    """

    def __init__(
        self, app: ASGIApp, log: FilteringBoundLogger, respond: Callable[[Request, ApiError], Response]
    ) -> None:
        self._app = app
        self._log = log
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        started_s, status = time.monotonic(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER, request_id.encode())]
            await send(message)

        log = self._log.bind(
            request_id=request_id, method=scope["method"], path=printable(scope["path"][:MAX_LOGGED_PATH])
        )
        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnect:
            log.info("client_disconnected")
        # Every exception: a client gets an error object, never a broken connection, if that is still possible.
        except Exception:
            log.exception("gateway_error")
            if status:
                raise
            await self._respond(Request(scope), server_error())(scope, receive, send_named)
        finally:
            write = log.debug if scope["path"] in QUIET_PATHS else log.info
            write("request", status=status, duration_s=round(time.monotonic() - started_s, 4))
