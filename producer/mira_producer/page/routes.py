"""The routes of the page: one line for each module with views."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.page import sign_in, static_files
from mira_producer.page.accounts import account_actions, account_list, account_view
from mira_producer.page.batches import batch_actions, batch_lines, batch_list, batch_view, new_batch
from mira_producer.page.jobs import job_actions, job_list, job_view
from mira_producer.page.overview import overview
from mira_producer.page.webhooks import webhook_view
from mira_producer.page.workers import worker_list

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
    account_list.routes,
    account_view.routes,
    account_actions.routes,
    worker_list.routes,
    webhook_view.routes,
)


def routes(context: Context) -> list[BaseRoute]:
    return [route for module in VIEWS for route in module(context)]
