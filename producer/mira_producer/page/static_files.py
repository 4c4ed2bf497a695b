"""Styles and scripts. Their URL has a digest of all of them, so browsers store them for a year."""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import not_found
from mira_producer.page.security import secured

FOREVER = "public, max-age=31536000, immutable"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def routes(_: Context) -> list[BaseRoute]:
    async def serve(request: Request) -> Response:
        name = request.path_params["name"]
        content = contents().get(name)
        if content is None:
            raise not_found("file", name, "name")
        # A page of an earlier version, or another gateway's, asks for other files than these.
        is_current = request.path_params["digest"] == digest()
        media_type = mimetypes.guess_type(name)[0]
        return secured(
            Response(content, headers={"cache-control": FOREVER if is_current else "no-cache"}, media_type=media_type)
        )

    return [Route("/static/{digest}/{name}", serve, name="page /static")]


def static_path(name: str) -> str:
    """Return the path of a file. Modules import each other by relative paths, so one digest is that of all files."""
    assert name in contents(), name
    return f"/static/{digest()}/{name}"


@cache
def contents() -> dict[str, bytes]:
    folder = files("mira_producer.page") / "static"
    return {each.name: each.read_bytes() for each in sorted(folder.iterdir(), key=lambda each: each.name)}


@cache
def digest() -> str:
    found = hashlib.sha256()
    for name, content in contents().items():
        found.update(f"{name}:{len(content)}:".encode() + content)
    return found.hexdigest()[:16]
