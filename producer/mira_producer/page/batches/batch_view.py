"""`/batches/{id}`: one batch, live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from mira_producer.batches.verification import is_verified
from mira_producer.gateway.batches.batch_operations import BatchOperations
from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_producer.page.batches.batch_records import BatchRecords
from mira_producer.page.batches.batch_state import BatchState, state_of, without_paths
from mira_producer.page.batches.error_groups import ErrorGroup, error_groups
from mira_producer.page.batches.throughput_chart import ThroughputChart
from mira_producer.page.rendering import fragment, render
from mira_producer.page.views import live, view
from mira_producer.page.visitor import Audience, Visitor
from mira_queue.contract.batch import Batch
from mira_queue.contract.file_id import FileKind, parse_file_id

# The report is a page of its own, with its style inside.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
# Parts of the view that change while the batch runs, by the id of their element.
PARTS = ("state", "why", "actions", "numbers", "errors", "results", "chart")


@dataclass(frozen=True, slots=True)
class ShownBatch:
    """All that the view shows. `has_files` is false if the files of the batch are on another machine.

    `input_id` is the uploaded file if it still exists, so that its invalid lines can be fixed.
    """

    state: BatchState
    has_files: bool
    errors: list[ErrorGroup]
    chart: ThroughputChart | None
    verified: bool | None
    input_id: str

    @property
    def batch(self) -> Batch:
        return self.state.batch


def routes(context: Context) -> list[BaseRoute]:
    operations, records = BatchOperations(context), BatchRecords()

    async def shown(request: Request, audience: Audience) -> ShownBatch:
        batch = await operations.found(request.path_params["id"], audience.sees)
        return await in_thread(_shown, context, records, batch, audience)

    async def show(request: Request, visitor: Visitor) -> Response:
        found = await shown(request, visitor.audience)
        return render(
            request, visitor, "batch.html", live=f"/live/batches/{found.batch.id}", shown=found, state=found.state
        )

    async def read(request: Request, audience: Audience) -> Mapping[str, str]:
        found = await shown(request, audience)
        return {
            f"batch-{part}": fragment(request, audience, f"parts/batch_{part}.html", shown=found, state=found.state)
            for part in PARTS
        }

    async def verify(request: Request, visitor: Visitor) -> Response:
        batch = await operations.found(request.path_params["id"], visitor.sees)
        verdict = await operations.verdict(batch, visitor.key)
        return render(request, visitor, "batch_verdict.html", batch=batch, verdict=verdict)

    async def report(request: Request, visitor: Visitor) -> Response:
        batch = await operations.found(request.path_params["id"], visitor.sees)
        page = await operations.report(batch, visitor.key)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})

    one = "/batches/{id}"
    return [
        view(context, one, show),
        live(context, f"/live{one}", read),
        view(context, f"{one}/verify", verify),
        view(context, f"{one}/report", report),
    ]


def _shown(context: Context, records: BatchRecords, batch: Batch, audience: Audience) -> ShownBatch:
    files = context.queue.batches.spool.files_of(batch)
    command = context.queue.ledger.command_of(batch.id)
    state = state_of(without_paths(batch, files, may_act=audience.may_act), command)
    if files is None:
        return ShownBatch(state, False, error_groups(batch, {}), None, None, "")
    record = records.of(files.record)
    file_id = batch.file_id(FileKind.INPUT)
    parsed = parse_file_id(file_id)
    is_upload = parsed is not None and parsed.kind is FileKind.UPLOAD and context.files.get(file_id) is not None
    return ShownBatch(
        state, True, error_groups(batch, record.samples), record.chart, is_verified(files), file_id if is_upload else ""
    )
