"""Routes of the page: a view shows something, and an action changes something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from hmac import compare_digest
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import ApiError, translated
from mira_producer.gateway.http.limits import body_pieces
from mira_producer.gateway.http.responses import json_response
from mira_producer.page.security import is_cross_site, secured
from mira_producer.page.session import Notice
from mira_producer.page.subpath import path_of
from mira_producer.page.visitor import Audience, Visitor, visitor_of
from mira_queue.contract.api_key import Scope
from mira_queue.contract.errors import MiraQueueError

Handler = Callable[[Request, Visitor], Awaitable[Response]]
# Returns the HTML of each element that changes, by the element's id.
Reader = Callable[[Request, Audience], Awaitable[Mapping[str, str]]]
SIGN_IN = "/sign-in"
URLENCODED = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 64 * 1024
MAX_FORM_FIELDS = 1000


class Redirect(RedirectResponse):
    """A redirect to another view (POST, redirect, GET), which shows this notice."""

    def __init__(self, request: Request, path: str, notice: str = "", *, is_error: bool = False) -> None:
        super().__init__(request.scope.get("root_path", "") + path, 303)
        self.notice = Notice(notice, is_error) if notice else None


def view(context: Context, path: str, handler: Handler) -> Route:
    """Return the route of a view. A browser without a session is sent to the sign-in form, and then comes back."""

    async def handle(request: Request) -> Response:
        visitor = await visitor_of(context, request)
        if visitor is None:
            place = path_of(request) + (f"?{request.url.query}" if request.url.query else "")
            return secured(Redirect(request, f"{SIGN_IN}?{urlencode({'next': place})}"))
        request.state.visitor = visitor
        request.state.notice = notice = context.sessions.notice(request)
        response = secured(await handler(request, visitor))
        if notice is not None:
            context.sessions.forget_notice(request, response)
        return response

    return Route(path, handle, methods=["GET"], name=f"page {path}")


def action(
    context: Context,
    path: str,
    handler: Handler,
    scope: Scope = Scope.ADMIN,
    *,
    max_form_bytes: int = MAX_FORM_BYTES,
) -> Route:
    """Return the route of an action. It needs the scope and a CSRF token, and is logged with its user.

    A browser gets a redirect, and a script that accepts only JSON gets JSON. An error of ours becomes a notice on the
    view that the form names in `back`, if it names one.
    """

    async def handle(request: Request) -> Response:
        visitor = await visitor_of(context, request)
        if visitor is None:
            if accepts_json_only(request):
                raise ApiError(401, "you are not signed in, or your session has ended", code="not_signed_in")
            return secured(Redirect(request, SIGN_IN))
        request.state.visitor = visitor
        if not visitor.key.scope.includes(scope):
            raise ApiError(403, f"your key has the scope {visitor.key.scope}: this needs {scope}", code="read_only")
        # With the caller, a repeated request is recognized: see gateway/retries.
        request.state.caller = visitor.key
        request.state.form = form = await form_of(request, max_form_bytes)
        token = form.get("csrf") or request.headers.get("x-csrf-token", "")
        is_foreign = is_cross_site(request, context.settings.page_url)
        if is_foreign or not compare_digest(token.encode(), visitor.csrf.encode()):
            raise ApiError(403, "this form is too old: go back, and reload the page", code="csrf")
        error: ApiError | None = None
        try:
            response = await handler(request, visitor)
        except ApiError as raised:
            error = raised
        except MiraQueueError as raised:
            error = translated(raised)
            if error is None:
                raise
        context.log.info(
            "page_action",
            request_id=request.state.request_id,
            action=path,
            path=path_of(request),
            user=visitor.name,
            key=visitor.key.id,
            status=error.status if error else response.status_code,
        )
        if error is not None:
            back = form.get("back", "")
            if accepts_json_only(request) or not is_local(back):
                raise error
            response = Redirect(request, back, error.message, is_error=True)
        if isinstance(response, Redirect):
            if accepts_json_only(request):
                notice = response.notice
                done = {"location": response.headers["location"], "notice": notice.text if notice else ""}
                return secured(json_response(done))
            if response.notice is not None:
                context.sessions.notify(request, response, response.notice)
        return secured(response)

    return Route(path, handle, methods=["POST"], name=f"page POST {path}")


def live(context: Context, path: str, read: Reader, fields: Collection[str] = ()) -> Route:
    """Return the route of a stream of server-sent events: the fragments that `read` returns, when they change.

    `read` is called once per second while a page shows the stream, once for all pages of the same audience. It uses
    only the path of the request, and these fields of its query.
    """

    async def handle(request: Request) -> Response:
        visitor = await visitor_of(context, request)
        if visitor is None:
            return secured(Response(status_code=401))

        async def is_signed_in() -> bool:
            return await visitor_of(context, request) is not None

        audience = visitor.audience
        pairs = ((name, value.strip()) for name, value in request.query_params.multi_items() if name in fields)
        topic = (path_of(request), tuple(sorted(pair for pair in pairs if pair[1])), audience)
        stream = await context.live.stream(topic, lambda: read(request, audience), is_signed_in, visitor.key.id)
        return secured(stream)

    return Route(path, handle, methods=["GET"], name=f"page {path}")


async def form_of(request: Request, max_bytes: int = MAX_FORM_BYTES) -> ImmutableMultiDict[str, str]:
    """Return the fields of a form. A body of another type is not read. Raises ApiError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != URLENCODED:
        return ImmutableMultiDict()
    body = b"".join([piece async for piece in body_pieces(request, max_bytes)])
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise ApiError(400, "the form could not be read", code="invalid_form") from None
    return ImmutableMultiDict(pairs)


def is_local(place: str) -> bool:
    """Return True for a path of this page: not a URL of another host, in any spelling that browsers accept."""
    return place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable()


def accepts_json_only(request: Request) -> bool:
    return request.headers.get("accept", "").strip().lower() == "application/json"


def is_for_browser(request: Request) -> bool:
    """Return True if an error should be a page: not below /v1, and the client accepts HTML."""
    path = path_of(request)
    return not (path == "/v1" or path.startswith("/v1/")) and "text/html" in request.headers.get("accept", "")
