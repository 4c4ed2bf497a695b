"""`/workers`: the live worker processes and what each one does, live."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.overview.recent_batches import recent_batches
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_producer.page.workers.worker_reader import read_workers
from mira_producer.page.workers.worker_state import WorkerState


def routes(context: Context) -> list[BaseRoute]:
    async def show(request: Request, visitor: Visitor) -> Response:
        workers = await in_thread(_read, context, visitor.audience)
        return render(request, visitor, "worker_list.html", live="/live/workers", workers=workers)

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        workers = await in_thread(_read, context, audience)
        return {"workers": fragment(request, audience, "parts/worker_rows.html", workers=workers)}

    return [view(context, "/workers", show), live(context, "/live/workers", read)]


def _read(context: Context, audience: Audience) -> list[WorkerState]:
    ledger = context.queue.ledger
    batches = [state.batch for state in recent_batches(context, audience)]
    return read_workers(ledger, ledger.accounts(), batches, audience)
