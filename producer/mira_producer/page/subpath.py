"""The path below which a proxy serves the page: that of MIRA_PAGE_URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


class Subpath:
    """Middleware. Starlette ignores the subpath at the start of a path, so proxies may remove it, or not."""

    def __init__(self, app: ASGIApp, page_url: str | None) -> None:
        self._app = app
        self._root = urlsplit(page_url or "").path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._root and scope["type"] == "http":
            path = scope["path"]
            scope = {**scope, "root_path": self._root, "path": f"{path}/" if path == self._root else path}
        await self._app(scope, receive, send)


def path_of(request: Request) -> str:
    """Return the path of a request, without the subpath."""
    path: str = request.scope["path"]
    root = root_of(request)
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def root_of(request: Request) -> str:
    """Return the subpath, such as /queue; usually an empty string."""
    root: str = request.scope.get("root_path", "")
    return root
