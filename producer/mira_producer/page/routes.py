"""The routes of the page: one line for each module with views."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.page import overview, sign_in, static_files

VIEWS: tuple[Callable[[Context], list[BaseRoute]], ...] = (
    static_files.routes,
    sign_in.routes,
    overview.routes,
)


def routes(context: Context) -> list[BaseRoute]:
    return [route for module in VIEWS for route in module(context)]
