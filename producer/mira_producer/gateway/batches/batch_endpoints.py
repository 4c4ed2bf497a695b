"""`/v1/batches`: OpenAI's operations, and pause, resume, retry, verify, and report.

The batches are those of `mira_producer.batches`: `mira-queue batches` shows the same ones.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from mira_producer.batches.client import Batches, StoredInput
from mira_producer.batches.verification import is_verified, verify_batch
from mira_producer.engine.options import with_new_limits
from mira_producer.gateway.batches.batch_body import CreateBatch, ResumeBatch, RetryBatch, window_of
from mira_producer.gateway.batches.hidden_paths import batch_without_paths, verdict_without_paths, without_paths
from mira_producer.gateway.context import Context
from mira_producer.gateway.endpoints import endpoint
from mira_producer.gateway.files.file_endpoints import found_file
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE, FileEntry
from mira_producer.gateway.http.errors import conflict, invalid, not_found
from mira_producer.gateway.http.json_body import Empty, json_body
from mira_producer.gateway.http.paging import Page, cut, listing, page_of
from mira_producer.gateway.http.responses import json_response
from mira_producer.gateway.http.spelling import http_spelling
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.key_limits import (
    additional_cost,
    check_table,
    cost_of_retry,
    explained,
    limits_of,
    max_cost,
    max_cost_of_resumed,
    open_lines,
    repeated,
)
from mira_producer.gateway.retries.identity import identity_of
from mira_producer.gateway.webhook_target import webhook_target
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.request_line import BATCH_URLS, raw_lines
from mira_producer.jsonl.verify import Verdict
from mira_producer.report.page import draw
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.batch import Batch, BatchFiles, BatchOptions, BatchOrigin, BatchStatus, new_batch_id
from mira_queue.contract.commands import Cancel, Resume
from mira_queue.contract.errors import BatchNotFound, MiraQueueError
from mira_queue.contract.file_id import FileKind
from mira_queue.contract.problem import INVALID_URL
from mira_queue.contract.project_limits import NO_LIMITS, ProjectUsage

# When an SDK that polls should ask again: a part of the time that is left, within these bounds.
MIN_POLL_S, MAX_POLL_S, POLL_SHARE = 1.0, 60.0, 0.1
_BATCH_ID = re.compile(r"batch_[0-9a-z_]{1,80}")
# Paths of this machine, which only the operator needs.
_OF_OPERATOR = ("files", "output", "errors")


def routes(context: Context) -> list[BaseRoute]:
    batches = BatchResource(context)
    one = "/v1/batches/{id}"
    return [
        endpoint(context, "POST", "/v1/batches", batches.create),
        endpoint(context, "GET", "/v1/batches", batches.list_all),
        endpoint(context, "GET", one, batches.retrieve),
        endpoint(context, "POST", f"{one}/cancel", batches.cancel),
        endpoint(context, "POST", f"{one}/pause", batches.pause),
        endpoint(context, "POST", f"{one}/resume", batches.resume),
        endpoint(context, "POST", f"{one}/retry", batches.retry),
        endpoint(context, "GET", f"{one}/verify", batches.verify),
        endpoint(context, "GET", f"{one}/report", batches.report),
    ]


class BatchResource:
    """Handlers of the resource."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _batches(self) -> Batches:
        return self._context.queue.batches

    async def create(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, CreateBatch)
        file = await found_input(self._context, body.input_file_id, key)
        await webhook_target(self._context, key, body.mira.webhook, "mira.webhook")
        batch = await in_thread(self._submit, body, file, key, identity_of(request))
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
        # A retry of a request whose response was lost has nothing more to do.
        if batch.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
            await in_thread(self._batches.cancel, batch.id)
        return await self._after(batch, key)

    async def pause(self, request: Request, key: ApiKey) -> Response:
        await json_body(request, Empty)
        batch = await self._found(request, key)
        await in_thread(self._batches.pause, batch.id)
        return await self._after(batch, key)

    async def resume(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, ResumeBatch)
        batch = await self._found(request, key)
        await in_thread(self._resume, batch, body, key)
        return await self._after(batch, key)

    async def retry(self, request: Request, key: ApiKey) -> Response:
        body = await json_body(request, RetryBatch)
        batch = await self._found(request, key)
        await in_thread(self._retry, batch, body, key)
        return await self._after(batch, key)

    async def verify(self, request: Request, key: ApiKey) -> Response:
        batch = await self._found(request, key)
        verdict = await in_thread(self._verdict, batch, key)
        return json_response({"object": "batch.verification", "batch_id": batch.id, **verdict.to_object()})

    async def report(self, request: Request, key: ApiKey) -> Response:
        batch = await self._found(request, key)
        return HTMLResponse(await in_thread(self._page_of_report, batch, key))

    async def _found(self, request: Request, key: ApiKey) -> Batch:
        batch_id = request.path_params["id"]
        # It becomes part of a path.
        if not _BATCH_ID.fullmatch(batch_id):
            raise not_found("batch", batch_id)
        batch = await in_thread(self._batches.get, batch_id)
        if not key.sees(batch.origin.project):
            raise not_found("batch", batch_id)
        return batch

    async def _after(self, batch: Batch, key: ApiKey) -> Response:
        return await in_thread(lambda: self._shown(self._batches.get(batch.id), key))

    def _submit(self, body: CreateBatch, file: FileEntry, key: ApiKey, identity: str) -> Batch:
        with suppress(BatchNotFound):
            # A retry: the limits of the key have allowed this batch.
            return self._batches.get(new_batch_id(simulated=self._context.is_simulated, identity=identity))
        _check_first_line(file.path, body.endpoint)
        expiry = body.output_expires_after
        origin = BatchOrigin(key.project, file.id, body.completion_window, expiry.seconds if expiry else 0)
        if key.max_cost_per_day or body.mira.max_cost:
            check_table(self._context.price_table.prices())
        lines = open_lines(key, file.path)
        stored = StoredInput(file.filename, origin, self._context.is_simulated, identity, limits_of(key), lines)
        deadline_s = math.ceil(time.time() + window_of(body.completion_window).total_seconds())

        def submit() -> Batch:
            cost = max_cost(key, body.mira.max_cost, self._usage(key))
            return self._batches.submit(
                file.path,
                options=BatchOptions(**{**body.mira.model_dump(), "max_cost": cost}, deadline_s=deadline_s),
                metadata=body.metadata,
                prices=self._context.price_table.path,
                account=key.account or None,
                stored=stored,
            )

        with explained(key, lambda: self._usage(key), lines):
            return repeated(submit)

    def _resume(self, batch: Batch, body: ResumeBatch, key: ApiKey) -> None:
        own = batch if batch.status.is_final else self._as_commanded(batch)

        def resume() -> None:
            cost = max_cost_of_resumed(key, body.max_cost, own, self._usage(key))
            additional = additional_cost(own, cost)
            with self._reserved(batch, key, cost=additional, needed=additional):
                self._batches.resume(batch.id, **{**body.model_dump(), "max_cost": cost})

        with explained(key, lambda: self._usage(key)):
            repeated(resume)

    def _retry(self, batch: Batch, body: RetryBatch, key: ApiKey) -> None:
        if batch.failed and not self._files_of(batch).errors.exists():
            raise conflict(f"batch {batch.id}: its errors were deleted: no line can be retried", "invalid_state")
        with (
            explained(key, lambda: self._usage(key), batch.failed),
            self._reserved(batch, key, lines=batch.failed, cost=cost_of_retry(batch)),
        ):
            self._batches.retry(batch.id, body.statuses)

    @contextmanager
    def _reserved(self, batch: Batch, key: ApiKey, lines: int = 0, cost: int = 0, needed: int = 0) -> Iterator[None]:
        """Count what a command is about to allow. Raises LimitReached."""
        ledger = self._context.queue.ledger
        limits = limits_of(key)
        if not batch.origin.project or batch.origin.project != key.project or not limits:
            yield
            return
        ledger.reserve(batch, limits, lines=lines, cost=cost, needed=needed)
        try:
            yield
        except MiraQueueError:
            ledger.reserve(batch, NO_LIMITS, lines=-lines, cost=-cost)
            raise

    def _usage(self, key: ApiKey) -> ProjectUsage:
        return self._context.queue.ledger.usage_of(key.project)

    def _as_commanded(self, batch: Batch) -> Batch:
        command = self._context.queue.ledger.command_of(batch.id)
        if not isinstance(command, Resume):
            return batch
        # Binding from the moment of the command, though its supervisor has not written it yet.
        return replace(batch, options=with_new_limits(batch.options, command))

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
        if not batch.status.is_final and isinstance(self._context.queue.ledger.command_of(batch.id), Cancel):
            # Binding from the moment of the command, though its supervisor has not written it yet.
            batch = batch.moved(BatchStatus.CANCELLING, int(time.time()))
        files = self._batches.spool.files_of(batch)
        if files is not None and key.scope is not Scope.ADMIN:
            batch = batch_without_paths(batch, files)
        batch = replace(batch, paused=http_spelling(batch.paused))
        shown = batch.to_object()
        shown["mira"]["verified"] = is_verified(files) if files else None
        if key.scope is not Scope.ADMIN:
            for name in _OF_OPERATOR:
                del shown["mira"][name]
        return shown

    def _files_of(self, batch: Batch) -> BatchFiles:
        files = self._batches.spool.files_of(batch)
        if files is None:
            raise conflict(f"the files of batch {batch.id} are on another machine", "files_elsewhere")
        return files

    def _verdict(self, batch: Batch, key: ApiKey) -> Verdict:
        files = self._files_of(batch)
        verdict = verify_batch(batch, files)
        return verdict if key.scope is Scope.ADMIN else verdict_without_paths(verdict, batch, files)

    def _page_of_report(self, batch: Batch, key: ApiKey) -> bytes:
        files = self._files_of(batch)
        errors = str(files.errors) if key.scope is Scope.ADMIN else batch.file_id(FileKind.ERRORS)
        if key.scope is not Scope.ADMIN:
            batch = batch_without_paths(batch, files)
        base = self._context.queue.accounts.with_id(batch.account).base or self._context.settings.api_base
        with tempfile.TemporaryDirectory(dir=self._context.settings.state_dir) as folder:
            path = Path(folder) / "report.html"
            try:
                draw(batch, files, base, path, errors)
            except InputError as error:
                reason = without_paths(error.brief.replace(f"{folder}/", ""), batch, files)
                raise conflict(f"batch {batch.id}: {reason}", "no_report") from None
            return path.read_bytes()


async def found_input(context: Context, file_id: str, key: ApiKey) -> FileEntry:
    """Return an uploaded file. Raises ApiError, which names the parameter."""
    file = await found_file(context, file_id, key, "input_file_id")
    if file.purpose != BATCH_PURPOSE or not context.files.holds(file):
        raise invalid("input_file_id", f"file {file_id} was not uploaded with the purpose {BATCH_PURPOSE}")
    return file


def _check_first_line(path: Path, url: str) -> None:
    """Raise ApiError if the first request is for another endpoint. The supervisor checks all lines."""
    # A line that cannot be read is a problem of the file, which the failed batch lists.
    with suppress(InputError, ValueError, AttributeError):
        for _, line in raw_lines(path):
            found = orjson.loads(line).get("url", url)
            if found not in BATCH_URLS:
                raise invalid("endpoint", f"line 1 of the file is for {str(found)[:80]!r}, not {url}", INVALID_URL)
            return


def _place(batch: Batch) -> tuple[int, str]:
    return batch.created_at, batch.id


def _poll_after_s(batch: Batch) -> float:
    """Return after which time a client should ask again, from the batch's own forecast."""
    wait_s = batch.updated_at + batch.waiting.wait.total_seconds() - time.time() if batch.waiting.wait else 0.0
    left_s = (batch.seconds_left or 0.0) * POLL_SHARE
    return min(MAX_POLL_S, max(MIN_POLL_S, wait_s, left_s))
