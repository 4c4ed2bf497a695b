"""Actions on one batch: pause, resume, cancel, and retry of failed lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.batches.batch_body import ResumeBatch, RetryBatch
from mira_producer.gateway.batches.batch_operations import BatchOperations
from mira_producer.gateway.context import Context
from mira_producer.gateway.http.json_body import checked
from mira_producer.gateway.http.whole_number import whole_number
from mira_producer.page.views import Redirect, action
from mira_producer.page.visitor import Visitor
from mira_queue.contract.batch import Batch

MAX_COUNT = 10**15


def routes(context: Context) -> list[BaseRoute]:
    operations = BatchOperations(context)

    async def pause(batch: Batch, form: Mapping[str, str], visitor: Visitor) -> str:
        await operations.pause(batch)
        return "Nothing more of this batch is sent. Calls in flight finish."

    async def resume(batch: Batch, form: Mapping[str, str], visitor: Visitor) -> str:
        await operations.resume(batch, checked(ResumeBatch, _resume_fields(form)), visitor.key)
        return "The batch resumes."

    async def cancel(batch: Batch, form: Mapping[str, str], visitor: Visitor) -> str:
        await operations.cancel(batch)
        return "The batch is being cancelled. Its answers so far remain."

    async def retry(batch: Batch, form: Mapping[str, str], visitor: Visitor) -> str:
        code = form.get("code", "")
        await operations.retry(batch, checked(RetryBatch, {"statuses": [code] if code else []}), visitor.key)
        return f"The lines with the error {code} run again." if code else "All failed lines run again."

    def route(name: str, act: Any) -> BaseRoute:
        async def handle(request: Request, visitor: Visitor) -> Response:
            batch = await operations.found(request.path_params["id"], visitor.sees)
            notice = await act(batch, request.state.form, visitor)
            return Redirect(request, f"/batches/{batch.id}", notice)

        return action(context, f"/batches/{{id}}/{name}", handle)

    return [
        route(name, act) for name, act in (("pause", pause), ("resume", resume), ("cancel", cancel), ("retry", retry))
    ]


def _resume_fields(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that the user has filled in. An empty one keeps the old limit. Raises ApiError."""
    fields: dict[str, Any] = {
        name: whole_number(name, form[name], 0, MAX_COUNT) for name in ("max_requests", "max_tokens") if form.get(name)
    }
    if cost := form.get("max_cost", "").strip():
        # 0 removes the limit, as it does for the others.
        fields["max_cost"] = "" if cost == "0" else cost
    if changed := form.get("changed"):
        fields["changed"] = changed
    return fields
