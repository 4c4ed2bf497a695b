"""`/batches/{id}/answers` and `/errors`: the lines of a batch's files so far, page by page, and as downloads."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from mira_producer.gateway.batches.batch_operations import BatchOperations
from mira_producer.gateway.context import Context
from mira_producer.gateway.files.content import content_response
from mira_producer.gateway.files.file_entry import FileEntry
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.http.whole_number import whole_number
from mira_producer.jsonl.line_pages import LinePage, page_after, page_before
from mira_producer.page.batches.result_rows import row_of
from mira_producer.page.rendering import render
from mira_producer.page.views import Handler, view
from mira_producer.page.visitor import Visitor
from mira_queue.contract.batch import Batch
from mira_queue.contract.file_id import FileKind

PER_PAGE = 50
MAX_PLACE = 2**50
_KINDS = {"answers": FileKind.OUTPUT, "errors": FileKind.ERRORS}


def routes(context: Context) -> list[BaseRoute]:
    operations = BatchOperations(context)

    async def found(request: Request, visitor: Visitor, kind: FileKind) -> tuple[Batch, FileEntry | None]:
        batch = await operations.found(request.path_params["id"], visitor.sees)
        return batch, await in_thread(context.batch_files.get, batch.file_id(kind))

    def lines(name: str, kind: FileKind) -> Handler:
        async def handle(request: Request, visitor: Visitor) -> Response:
            batch, file = await found(request, visitor, kind)
            values: dict[str, Any] = {"page": None, "rows": [], "size": 0}
            if file is not None:
                page = await in_thread(_page, request, file)
                values = {"page": page, "rows": [row_of(line) for line in page.lines], "size": file.bytes}
            return render(request, visitor, "batch_lines.html", batch=batch, name=name, **values)

        return handle

    def download(name: str, kind: FileKind) -> Handler:
        async def handle(request: Request, visitor: Visitor) -> Response:
            batch, file = await found(request, visitor, kind)
            if file is None:
                return render(request, visitor, "batch_lines.html", 404, batch=batch, name=name, page=None, rows=[])
            response = await content_response(request, file)
            # The id of a batch is safe in a header, and the name of its input is not.
            response.headers["content-disposition"] = f'attachment; filename="{batch.id}_{name}.jsonl"'
            return response

        return handle

    one = "/batches/{id}"
    return [
        route
        for name, kind in _KINDS.items()
        for route in (
            view(context, f"{one}/{name}", lines(name, kind)),
            view(context, f"{one}/{name}.jsonl", download(name, kind)),
        )
    ]


def _page(request: Request, file: FileEntry) -> LinePage:
    """Return the lines after the place of the URL, or before it. Raises ApiError."""
    query = request.query_params
    if before := query.get("before"):
        place = file.bytes if before == "end" else whole_number("before", before, 0, MAX_PLACE)
        return page_before(file.path, place, file.bytes, PER_PAGE)
    return page_after(file.path, whole_number("after", query.get("after", "0"), 0, MAX_PLACE), file.bytes, PER_PAGE)
