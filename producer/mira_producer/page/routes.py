"""The routes of the page: one line for each module with views."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.page import overview, sign_in, static_files
from mira_producer.page.batches import batch_actions, batch_lines, batch_list, batch_view, new_batch
from mira_producer.page.jobs import job_actions, job_list, job_view

VIEWS: tuple[Callable[[Context], list[BaseRoute]], ...] = (
    static_files.routes,
    sign_in.routes,
    overview.routes,
    job_list.routes,
    job_actions.routes,
    job_view.routes,
    batch_list.routes,
    # Before the view of one batch, whose id could be any word.
    new_batch.routes,
    batch_view.routes,
    batch_lines.routes,
    batch_actions.routes,
)


def routes(context: Context) -> list[BaseRoute]:
    return [route for module in VIEWS for route in module(context)]
