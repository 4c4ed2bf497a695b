"""Headers that restrict what a browser does with the page."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # Pages of a session that has ended must not be in the history of a shared browser.
    "cache-control": "no-store",
}

R = TypeVar("R", bound=Response)


def secured(response: R) -> R:
    """Return the response with the headers, except those that it has already."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def is_cross_site(request: Request, page_url: str | None) -> bool:
    """Return True if the browser says that another site has sent the request.

    Over plain HTTP, browsers send no `Sec-Fetch-Site`. The origin is then that of the page: of the Host header, or of
    MIRA_PAGE_URL, because a proxy may change the Host header.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    own = {request.headers.get("host", "").lower(), urlsplit(page_url or "").netloc.lower()} - {""}
    return origin is not None and urlsplit(origin.lower()).netloc not in own
