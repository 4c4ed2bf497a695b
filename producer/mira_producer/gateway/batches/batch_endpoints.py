"""`/v1/batches`: OpenAI's operations, and pause, resume, retry, verify, and report.

The batches are those of `mira_producer.batches`: `mira-queue batches` shows the same ones.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from mira_producer.batches.client import Batches
from mira_producer.batches.verification import is_verified
from mira_producer.gateway.batches.batch_body import CreateBatch, ResumeBatch, RetryBatch
from mira_producer.gateway.batches.batch_object import BatchObject, VerificationObject
from mira_producer.gateway.batches.batch_operations import BatchOperations
from mira_producer.gateway.batches.hidden_paths import batch_without_paths
from mira_producer.gateway.context import Context
from mira_producer.gateway.description.described import TEXT, Described
from mira_producer.gateway.description.pages import PAGE
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.http.errors import invalid
from mira_producer.gateway.http.json_body import Empty, json_body
from mira_producer.gateway.http.objects import Listing
from mira_producer.gateway.http.paging import Page, cut, listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.spelling import http_spelling
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.retries.identity import identity_of
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.batch import Batch

# When an SDK that polls should ask again: a part of the time that is left, within these bounds.
MIN_POLL_S, MAX_POLL_S, POLL_SHARE = 1.0, 60.0, 0.1
# Paths of this machine, which only the operator needs.
_OF_OPERATOR = ("files", "output", "errors")

CREATE = Described("create_batch", "Create a batch from a file.", BatchObject, CreateBatch, errors=(404, 409, 507))
LIST = Described("list_batches", "List batches, the newest first.", Listing[BatchObject], query=PAGE)
RETRIEVE = Described("retrieve_batch", "Return a batch.", BatchObject, polled=True)
CANCEL = Described("cancel_batch", "Cancel a batch.", BatchObject, Empty, errors=(409,), polled=True)
PAUSE = Described("pause_batch", "Send no more lines.", BatchObject, Empty, errors=(409,), polled=True)
RESUME = Described(
    "resume_batch",
    "Send lines again, optionally with another budget.",
    BatchObject,
    ResumeBatch,
    errors=(409,),
    polled=True,
)
RETRY = Described(
    "retry_batch",
    "Run failed lines again.",
    BatchObject,
    RetryBatch,
    errors=(409,),
    polled=True,
)
VERIFY = Described("verify_batch", "Compare the files of a batch.", VerificationObject, errors=(409,))
REPORT = Described("report_batch", "Return a page about a batch.", media={"text/html": TEXT}, errors=(409,))


def routes(context: Context) -> list[BaseRoute]:
    batches = BatchResource(context)
    one = "/v1/batches/{id}"
    return [
        endpoint(context, "POST", "/v1/batches", batches.create, CREATE),
        endpoint(context, "GET", "/v1/batches", batches.list_all, LIST),
        endpoint(context, "GET", one, batches.retrieve, RETRIEVE),
        endpoint(context, "POST", f"{one}/cancel", batches.cancel, CANCEL),
        endpoint(context, "POST", f"{one}/pause", batches.pause, PAUSE),
        endpoint(context, "POST", f"{one}/resume", batches.resume, RESUME),
        endpoint(context, "POST", f"{one}/retry", batches.retry, RETRY),
        endpoint(context, "GET", f"{one}/verify", batches.verify, VERIFY),
        endpoint(context, "GET", f"{one}/report", batches.report, REPORT),
    ]


class BatchResource:
    """Handlers of the resource."""

    def __init__(self, context: Context) -> None:
        self._operations = BatchOperations(context)

    @property
    def _batches(self) -> Batches:
        return self._operations.batches

    async def create(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, CreateBatch)
        batch = await self._operations.create(body, key, identity_of(request))
        return await in_thread(self._shown, batch, key)

    async def list_all(self, request: Request, key: ApiKey) -> Response:
        found, has_more = await in_thread(self._page, page_of(request), key)
        objects = await in_thread(lambda: [self._object(batch, key) for batch in found])
        return json_response(listing(objects, has_more=has_more))

    async def retrieve(self, request: Request, key: ApiKey) -> Response:
        return await in_thread(self._shown, await self._found(request, key), key)

    async def cancel(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        batch = await self._found(request, key)
        await self._operations.cancel(batch)
        return await self._after(batch, key)

    async def pause(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        batch = await self._found(request, key)
        await self._operations.pause(batch)
        return await self._after(batch, key)

    async def resume(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, ResumeBatch)
        batch = await self._found(request, key)
        await self._operations.resume(batch, body, key)
        return await self._after(batch, key)

    async def retry(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, RetryBatch)
        batch = await self._found(request, key)
        await self._operations.retry(batch, body, key)
        return await self._after(batch, key)

    async def verify(self, request: Request, key: ApiKey) -> Response:
        batch = await self._found(request, key)
        verdict = await self._operations.verdict(batch, key)
        return json_response({"object": "batch.verification", "batch_id": batch.id, **verdict.to_object()})

    async def report(self, request: Request, key: ApiKey) -> Response:
        return HTMLResponse(await self._operations.report(await self._found(request, key), key))

    async def _found(self, request: Request, key: ApiKey) -> Batch:
        return await self._operations.found(request.path_params["id"], key.sees)

    async def _after(self, batch: Batch, key: ApiKey) -> Response:
        return await in_thread(lambda: self._shown(self._batches.get(batch.id), key))

    def _page(self, page: Page, key: ApiKey) -> tuple[list[Batch], bool]:
        seen = {batch.id: batch for batch in self._batches.all() if key.sees(batch.origin.project)}
        if page.after and page.after not in seen:
            raise invalid("after", f"no batch {page.after[:80]!r}: the id is wrong, or it has expired")
        after = _place(seen[page.after]) if page.after else None
        return cut(list(seen.values()), page, _place, after)

    def _shown(self, batch: Batch, key: ApiKey) -> Response:
        headers = {} if batch.status.is_final else {"openai-poll-after-ms": str(round(1000 * _poll_after_s(batch)))}
        return json_response(self._object(batch, key), headers=headers)

    def _object(self, batch: Batch, key: ApiKey) -> dict[str, Any]:
        batch = self._operations.as_commanded(batch)
        files = self._batches.spool.files_of(batch)
        if files is not None and key.scope is not Scope.ADMIN:
            batch = batch_without_paths(batch, files)
        shown = batch.to_object()
        shown["mira"]["paused"] = http_spelling(batch.paused) or None
        shown["mira"]["verified"] = is_verified(files) if files else None
        if key.scope is not Scope.ADMIN:
            for name in _OF_OPERATOR:
                del shown["mira"][name]
        return shown


def _place(batch: Batch) -> tuple[int, str]:
    return batch.created_at, batch.id


def _poll_after_s(batch: Batch) -> float:
    """Return after which time a client should ask again, from the batch's own forecast."""
    wait_s = batch.updated_at + batch.waiting.wait.total_seconds() - time.time() if batch.waiting.wait else 0.0
    left_s = (batch.seconds_left or 0.0) * POLL_SHARE
    return min(MAX_POLL_S, max(MIN_POLL_S, wait_s, left_s))
