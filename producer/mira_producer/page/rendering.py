"""Templates: whole pages, and fragments of them for live updates."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mira_producer.cost.prices import money
from mira_producer.page.accounts.limit_chart import change_text
from mira_producer.page.static_files import static_path
from mira_producer.page.subpath import path_of, root_of
from mira_producer.page.visitor import Audience, Visitor
from mira_producer.text import duration, milliseconds, per_time, plural


def render(
    request: Request, visitor: Visitor | None, template: str, /, status: int = 200, *, live: str = "", **values: Any
) -> Response:
    """Return a page. `live` is the path of its stream of updates; without a visitor, the page has no navigation."""
    page = (
        _templates()
        .get_template(template)
        .render(
            **_common(request),
            visitor=visitor,
            may_act=visitor is not None and visitor.may_act,
            csrf=visitor.csrf if visitor else "",
            live=live,
            now_ms=round(time.time() * 1000),
            notice=getattr(request.state, "notice", None),
            **values,
        )
    )
    return HTMLResponse(page, status)


def fragment(request: Request, audience: Audience, template: str, /, **values: Any) -> str:
    """Return a part of a page for a live update. The script of the page inserts the user's CSRF token into forms."""
    return _templates().get_template(template).render(**_common(request), may_act=audience.may_act, csrf="", **values)


def _common(request: Request) -> dict[str, Any]:
    root = root_of(request)
    return {
        "path": path_of(request),
        "link": _linker(root),
        "static": lambda name: root + static_path(name),
    }


def _linker(root: str) -> Callable[..., str]:
    def link(path: str, **query: Any) -> str:
        """Return the URL of a view, with the parts of its query that are not empty."""
        given = {name: value for name, value in query.items() if value not in ("", None)}
        return root + path + (f"?{urlencode(given, doseq=True)}" if given else "")

    return link


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("mira_producer.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        ago=ago,
        count="{:,}".format,
        countdown=countdown,
        duration=duration,
        limits=change_text,
        milliseconds=milliseconds,
        money=money,
        moment=moment,
        per_time=per_time,
        plural=plural,
    )
    return found


def moment(at_ms: float) -> Markup:
    """Return a time. The script shows it in the browser's time zone."""
    return _time(at_ms, "moment")


def ago(at_ms: float) -> Markup:
    """Return a time of the past. The script shows how long ago it was."""
    return _time(at_ms, "ago")


def countdown(until_ms: float) -> Markup:
    """Return a time of the future. The script shows how long it takes until then.

    The text is that of the time, so that a live update is sent when the time changes, and not each second.
    """
    return _time(until_ms, "countdown")


def _time(at_ms: float, kind: str) -> Markup:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return Markup('<time class="{}" datetime="{}">{}</time>').format(
        kind, at.isoformat(timespec="milliseconds"), at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )
