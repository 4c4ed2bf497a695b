"""`/batches`: all batches that the user sees, the newest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.batches.batch_state import BatchState, state_of, without_paths
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_queue.contract.batch import Batch, BatchStatus

PER_PAGE = 25
# Batches that are read together, and at most for one page, if few of them match. The next page continues there.
PER_READ, MAX_READ = 50, 250
Place = tuple[int, str]
_PLACE = re.compile(r"(\d{1,12})-(batch_[0-9a-z_]{1,80})")
# What the filter offers, by its value in the URL.
FILTERS: Mapping[str, tuple[str, Callable[[BatchState], bool]]] = {
    "": ("all", lambda state: True),
    "open": ("open", lambda state: state.is_open),
    "paused": ("paused", lambda state: state.is_open and bool(state.batch.paused)),
    "waiting": ("waiting", lambda state: state.words == "waiting"),
    "errors": ("with failed lines", lambda state: bool(state.batch.failed)),
    "completed": ("completed", lambda state: state.batch.status is BatchStatus.COMPLETED),
    "failed": ("invalid file", lambda state: state.batch.status is BatchStatus.FAILED),
    "expired": ("expired", lambda state: state.batch.status is BatchStatus.EXPIRED),
    "cancelled": ("cancelled", lambda state: state.batch.status is BatchStatus.CANCELLED),
}


@dataclass(frozen=True, slots=True)
class BatchPage:
    """A page of the list. `after` is the place of the next page; empty: there is none."""

    states: tuple[BatchState, ...]
    after: str


def routes(context: Context) -> list[BaseRoute]:
    async def page(request: Request, audience: Audience) -> BatchPage:
        chosen = request.query_params.get("status", "")
        matches = FILTERS.get(chosen, FILTERS[""])[1]
        return await in_thread(_page, context, audience, matches, _place(request.query_params.get("after", "")))

    async def show(request: Request, visitor: Visitor) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return render(
            request,
            visitor,
            "batch_list.html",
            live=f"/live/batches{query}",
            page=await page(request, visitor.audience),
            filters={value: words for value, (words, _) in FILTERS.items()},
            chosen=request.query_params.get("status", ""),
            is_first=not request.query_params.get("after"),
        )

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        chosen = request.query_params.get("status", "")
        found = await page(request, audience)
        return {"batches": fragment(request, audience, "parts/batch_rows.html", page=found, chosen=chosen)}

    return [view(context, "/batches", show), live(context, "/live/batches", read, ("status", "after"))]


def _page(
    context: Context, audience: Audience, matches: Callable[[BatchState], bool], place: Place | None
) -> BatchPage:
    """Return a page of batches. It reads few batches after the page, and files of those on it only."""
    found: list[BatchState] = []
    for _ in range(MAX_READ // PER_READ):
        part = context.queue.batches.after(place, PER_READ)
        for batch, command in part:
            if len(found) == PER_PAGE:
                return BatchPage(tuple(found), _text(place))
            place = batch.created_at, batch.id
            state = state_of(batch, command)
            if audience.sees(batch.origin.project) and matches(state):
                found.append(state if audience.may_act else state_of(_without_paths(context, batch), command))
        if len(part) < PER_READ:
            return BatchPage(tuple(found), "")
    return BatchPage(tuple(found), _text(place))


def _without_paths(context: Context, batch: Batch) -> Batch:
    return without_paths(batch, context.queue.batches.spool.files_of(batch), may_act=False)


def _place(text: str) -> Place | None:
    found = _PLACE.fullmatch(text)
    return (int(found[1]), found[2]) if found else None


def _text(place: Place | None) -> str:
    return f"{place[0]}-{place[1]}" if place else ""
