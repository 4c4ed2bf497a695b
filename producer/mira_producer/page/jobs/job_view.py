"""The view of one job, and the actions on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.cost.prices import Prices
from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import conflict, not_found
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.jobs.job_reader import MAX_SHOWN, JobPage, messages_of, read_job
from mira_producer.page.jobs.timeline_text import event_text
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import Redirect, action, live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_queue.contract.api_key import Scope
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.outcome import Completion
from mira_queue.contract.settings import variable

PATH = "/jobs/{id}"


def routes(context: Context) -> list[BaseRoute]:
    views = _JobView(context)
    return [
        view(context, PATH, views.show),
        view(context, f"{PATH}/answer", views.download),
        live(context, f"/live{PATH}", views.changes),
        action(context, f"{PATH}/cancel", views.cancel),
        action(context, f"{PATH}/retry", views.retry),
    ]


class _JobView:
    """Handlers of the views and the actions."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request, visitor: Visitor) -> Response:
        may_see = visitor.key.scope is Scope.ADMIN and self._context.settings.page_requests == "shown"
        page = await self._read(request, visitor.audience, with_request=may_see)
        body = page.details.request
        return render(
            request,
            visitor,
            "job.html",
            # A job that has finished stays as it is.
            live="" if page.job.state.is_final else f"/live/jobs/{page.job.id}",
            messages=messages_of(body) if body else None,
            may_see_request=may_see,
            is_admin=visitor.key.scope is Scope.ADMIN,
            setting=variable("page_requests"),
            **self._values(page),
        )

    async def changes(self, request: Request, audience: Audience) -> Mapping[str, str]:
        page = await self._read(request, audience)
        return {"job": fragment(request, audience, "parts/job_state.html", **self._values(page))}

    async def download(self, request: Request, visitor: Visitor) -> Response:
        """Return the whole response of the API as a file."""
        page = await self._read(request, visitor.audience)
        if not isinstance(page.outcome, Completion):
            raise conflict(f"job {page.job.id} has no answer: it is {page.job.state}", "invalid_state")
        headers = {"content-disposition": f'attachment; filename="{page.job.id}.json"'}
        return Response(orjson.dumps(page.outcome.body, option=orjson.OPT_INDENT_2), 200, headers, "application/json")

    async def cancel(self, request: Request, visitor: Visitor) -> Response:
        job_id = await self._single_job(request, visitor)
        is_done = await in_thread(self._context.queue.ledger.cancel, job_id)
        return _done(request, job_id, is_done, "The job is cancelled.", "The job had already finished.")

    async def retry(self, request: Request, visitor: Visitor) -> Response:
        job_id = await self._single_job(request, visitor)
        is_done = await in_thread(self._context.queue.retry_job, job_id)
        return _done(request, job_id, is_done, "The job is queued again.", "The job has not failed, or runs again.")

    async def _single_job(self, request: Request, visitor: Visitor) -> str:
        """Return the ID of the job. Raises ApiError for a line of a file: its batch decides on it."""
        page = await self._read(request, visitor.audience)
        if page.details.group:
            raise conflict(f"job {page.job.id} is a line of a batch: cancel or retry the batch", "invalid_state")
        return page.job.id

    async def _read(self, request: Request, audience: Audience, *, with_request: bool = False) -> JobPage:
        """Return the job that the URL names. Raises ApiError (404)."""
        job_id = request.path_params["id"]
        try:
            return await in_thread(
                read_job, self._context.queue, audience, job_id, self._prices, with_request=with_request
            )
        except JobNotFound:
            raise not_found("job", job_id) from None

    def _values(self, page: JobPage) -> dict[str, Any]:
        answer = page.answer
        return {
            "page": page,
            "job": page.job,
            "answer": answer[:MAX_SHOWN],
            "is_cut": len(answer) > MAX_SHOWN,
            "currency": self._prices.currency,
            "event_text": event_text,
        }

    @property
    def _prices(self) -> Prices:
        return self._context.price_table.prices()


def _done(request: Request, job_id: str, is_done: bool, done: str, not_done: str) -> Response:
    return Redirect(request, f"/jobs/{job_id}", done if is_done else not_done, is_error=not is_done)
