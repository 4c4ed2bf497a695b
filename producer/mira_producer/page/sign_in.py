"""Sign-in with an API key, and sign-out."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import ApiError
from mira_producer.page.rendering import render
from mira_producer.page.security import is_cross_site, secured
from mira_producer.page.views import SIGN_IN, Redirect, action, form_of, is_local
from mira_producer.page.visitor import Visitor, visitor_of
from mira_queue.contract.api_key import Scope, digest_of

MAX_TRIES = 10
TRIES_WINDOW_S = 60.0
MAX_ADDRESSES = 10_000


def routes(context: Context) -> list[BaseRoute]:
    tries = Tries()

    def form_page(request: Request, place: str, problem: str = "", status: int = 200) -> Response:
        values = {"place": place, "problem": problem, "create": context.access.create_command}
        return secured(render(request, None, "sign_in.html", status, **values))

    async def form(request: Request) -> Response:
        place = _place(request.query_params.get("next", ""))
        if await visitor_of(context, request) is not None:
            return secured(Redirect(request, place))
        return form_page(request, place)

    async def sign_in(request: Request) -> Response:
        fields = await form_of(request)
        place = _place(fields.get("next", ""))
        if is_cross_site(request, context.settings.page_url):
            raise ApiError(403, "another site has sent this form", code="csrf")
        address = request.client.host if request.client else ""
        wait_s = tries.wait_s(address)
        if wait_s:
            return form_page(request, place, f"Too many wrong keys. Wait {wait_s} s, and try again.", 429)
        secret = fields.get("key", "").strip()
        digest = digest_of(SecretStr(secret))
        key = await context.access.known(digest)
        context.log.info(
            "page_sign_in", request_id=request.state.request_id, key=key.id if key else "", address=address
        )
        if key is None:
            tries.add(address)
            reason = context.access.why_unknown(secret)
            return form_page(request, place, f"{reason[:1].upper()}{reason[1:]}.", 401)
        response = secured(Redirect(request, place))
        context.sessions.start(request, response, digest)
        return response

    async def sign_out(request: Request, _: Visitor) -> Response:
        response = Redirect(request, SIGN_IN)
        context.sessions.end(request, response)
        return response

    return [
        Route(SIGN_IN, form, methods=["GET"], name="page sign-in"),
        Route(SIGN_IN, sign_in, methods=["POST"], name="page POST sign-in"),
        action(context, "/sign-out", sign_out, Scope.READ),
    ]


class Tries:
    """Wrong keys of each address in the last minute: at most MAX_TRIES are checked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, address: str) -> None:
        times = self._times.setdefault(address, deque(maxlen=MAX_TRIES))
        times.append(self._clock())
        self._times.move_to_end(address)
        if len(self._times) > MAX_ADDRESSES:
            self._times.popitem(last=False)

    def wait_s(self, address: str) -> int:
        """Return the seconds until the next try is allowed, rounded up; 0 if it is allowed now."""
        times = self._times.get(address)
        if times is None or len(times) < MAX_TRIES:
            return 0
        left_s = times[0] + TRIES_WINDOW_S - self._clock()
        return int(left_s) + 1 if left_s > 0 else 0


def _place(wanted: str) -> str:
    return wanted if is_local(wanted) and not wanted.startswith(SIGN_IN) else "/"
