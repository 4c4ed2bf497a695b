"""Operations on batches that the API and the web page share. Each stays within the limits of the API key."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson

from mira_producer.batches.client import Batches, StoredInput
from mira_producer.batches.verification import verify_batch
from mira_producer.engine.options import with_new_limits
from mira_producer.gateway.batches.batch_body import CreateBatch, ResumeBatch, RetryBatch, window_of
from mira_producer.gateway.batches.hidden_paths import batch_without_paths, verdict_without_paths, without_paths
from mira_producer.gateway.context import Context
from mira_producer.gateway.files.file_endpoints import found_file
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE, FileEntry
from mira_producer.gateway.http.errors import conflict, invalid, not_found
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
from mira_producer.gateway.webhook_target import webhook_target
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.remove_errors import check_statuses
from mira_producer.jsonl.request_line import BATCH_URLS, raw_lines
from mira_producer.jsonl.verify import Verdict
from mira_producer.report.page import draw
from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.batch import Batch, BatchFiles, BatchOptions, BatchOrigin, BatchStatus, new_batch_id
from mira_queue.contract.commands import Cancel, Resume
from mira_queue.contract.errors import BatchNotFound, MiraQueueError
from mira_queue.contract.file_id import FileKind
from mira_queue.contract.problem import INVALID_URL
from mira_queue.contract.project_limits import NO_LIMITS, ProjectUsage, checked_amount

_BATCH_ID = re.compile(r"batch_[0-9a-z_]{1,80}")


class BatchOperations:
    """The batches of a gateway's queue, as the callers of the gateway use them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def batches(self) -> Batches:
        return self._context.queue.batches

    async def found(self, batch_id: str, sees: Callable[[str], bool]) -> Batch:
        """Return a batch. Raises ApiError (404) if there is none, or if the caller does not see its project."""
        # It becomes part of a path.
        if not _BATCH_ID.fullmatch(batch_id):
            raise not_found("batch", batch_id)
        batch = await in_thread(self.batches.get, batch_id)
        if not sees(batch.origin.project):
            raise not_found("batch", batch_id)
        return batch

    async def create(self, body: CreateBatch, key: ApiKey, identity: str, user: str = "") -> Batch:
        """Return the batch of this identity, which is created unless it exists. Raises ApiError, InputError.

        `user` is the person who starts it on the web page.
        """
        file = await self._input(body.input_file_id, key)
        await webhook_target(self._context, key, body.mira.webhook, "mira.webhook")
        return await in_thread(self._submit, body, file, key, identity, user)

    async def created(self, identity: str) -> Batch | None:
        """Return the batch that a request with this identity has created, or None."""
        return await in_thread(self._created, identity)

    async def pause(self, batch: Batch) -> None:
        await in_thread(self.batches.pause, batch.id)

    async def resume(self, batch: Batch, body: ResumeBatch, key: ApiKey) -> None:
        await in_thread(self._resume, batch, body, key)

    async def retry(self, batch: Batch, body: RetryBatch, key: ApiKey) -> None:
        await in_thread(self._retry, batch, body, key)

    async def cancel(self, batch: Batch) -> None:
        # A retry of a request whose response was lost has nothing more to do.
        if batch.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
            await in_thread(self.batches.cancel, batch.id)

    async def verdict(self, batch: Batch, key: ApiKey) -> Verdict:
        return await self._context.file_threads.run(self._verdict, batch, key)

    async def report(self, batch: Batch, key: ApiKey) -> bytes:
        """Return a page about the batch."""
        return await self._context.file_threads.run(self._report, batch, key)

    def as_commanded(self, batch: Batch) -> Batch:
        """Return the batch as it is with a command that its supervisor has not carried out yet.

        A command is binding from the moment at which it is sent.
        """
        if batch.status.is_final:
            return batch
        command = self._context.queue.ledger.command_of(batch.id)
        if isinstance(command, Cancel):
            return batch.moved(BatchStatus.CANCELLING, int(time.time()))
        if isinstance(command, Resume):
            return replace(batch, options=with_new_limits(batch.options, command))
        return batch

    async def _input(self, file_id: str, key: ApiKey) -> FileEntry:
        file = await found_file(self._context, file_id, key, "input_file_id")
        if file.purpose != BATCH_PURPOSE or not self._context.files.holds(file):
            raise invalid("input_file_id", f"file {file_id} was not uploaded with the purpose {BATCH_PURPOSE}")
        return file

    def _created(self, identity: str) -> Batch | None:
        with suppress(BatchNotFound):
            return self.batches.get(new_batch_id(simulated=self._context.is_simulated, identity=identity))
        return None

    def _submit(self, body: CreateBatch, file: FileEntry, key: ApiKey, identity: str, user: str) -> Batch:
        if (created := self._created(identity)) is not None:
            # A retry: the limits of the key have allowed this batch.
            return created
        _check_first_line(file.path, body.endpoint)
        _check_amount(body.mira.max_cost, "mira.max_cost")
        expiry = body.output_expires_after
        origin = BatchOrigin(key.project, file.id, body.completion_window, expiry.seconds if expiry else 0, user)
        if key.max_cost_per_day or body.mira.max_cost:
            check_table(self._context.price_table.prices())
        lines = open_lines(key, file.path)
        stored = StoredInput(file.filename, origin, self._context.is_simulated, identity, limits_of(key), lines)
        deadline_s = math.ceil(time.time() + window_of(body.completion_window).total_seconds())

        def submit() -> Batch:
            cost = max_cost(key, body.mira.max_cost, self._usage(key))
            return self.batches.submit(
                file.path,
                options=BatchOptions(**{**body.mira.model_dump(), "max_cost": cost}, deadline_s=deadline_s),
                metadata=body.metadata,
                prices=self._context.price_table.content(),
                account=key.account or None,
                stored=stored,
            )

        with explained(key, lambda: self._usage(key), lines):
            return repeated(submit)

    def _resume(self, batch: Batch, body: ResumeBatch, key: ApiKey) -> None:
        _check_amount(body.max_cost, "max_cost")
        own = self.as_commanded(batch)

        def resume() -> None:
            cost = max_cost_of_resumed(key, body.max_cost, own, self._usage(key))
            additional = additional_cost(own, cost)
            with self._reserved(batch, key, cost=additional, needed=additional):
                self.batches.resume(batch.id, **{**body.model_dump(), "max_cost": cost})

        with explained(key, lambda: self._usage(key)):
            repeated(resume)

    def _retry(self, batch: Batch, body: RetryBatch, key: ApiKey) -> None:
        if batch.failed and not self._files_of(batch).errors.exists():
            raise conflict(f"batch {batch.id}: its errors were deleted: no line can be retried", "invalid_state")
        try:
            check_statuses(body.statuses)
        except InputError as error:
            raise invalid("statuses", error.brief.removeprefix("status: ")) from None
        with (
            explained(key, lambda: self._usage(key), batch.failed),
            self._reserved(batch, key, lines=batch.failed, cost=cost_of_retry(batch)),
        ):
            self.batches.retry(batch.id, body.statuses)

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

    def _files_of(self, batch: Batch) -> BatchFiles:
        files = self.batches.spool.files_of(batch)
        if files is None:
            raise conflict(f"the files of batch {batch.id} are on another machine", "files_elsewhere")
        return files

    def _verdict(self, batch: Batch, key: ApiKey) -> Verdict:
        files = self._files_of(batch)
        try:
            verdict = verify_batch(batch, files)
        except InputError as error:
            raise conflict(f"batch {batch.id}: its files cannot be compared: {error.brief}", "invalid_state") from None
        return verdict if key.scope is Scope.ADMIN else verdict_without_paths(verdict, batch, files)

    def _report(self, batch: Batch, key: ApiKey) -> bytes:
        files = self._files_of(batch)
        errors = str(files.errors) if key.scope is Scope.ADMIN else batch.file_id(FileKind.ERRORS)
        if key.scope is not Scope.ADMIN:
            batch = batch_without_paths(batch, files)
        base = self._context.queue.accounts.with_id(batch.account).base or self._context.settings.api_base
        with tempfile.TemporaryDirectory(dir=self._context.settings.state_dir) as folder:
            path = Path(folder) / "report.html"
            is_shown = key.scope is Scope.ADMIN and self._context.settings.page_requests == "shown"
            try:
                draw(batch, files, base, path, errors, shows_content=is_shown)
            except InputError as error:
                reason = without_paths(error.brief.replace(f"{folder}/", ""), batch, files)
                raise conflict(reason, "invalid_state") from None
            return path.read_bytes()


def _check_amount(text: str | None, param: str) -> None:
    """Raise ApiError if the text is not an amount; an empty one, or None, is no limit."""
    try:
        if text:
            checked_amount(text)
    except ValueError as error:
        raise invalid(param, str(error)) from None


def _check_first_line(path: Path, url: str) -> None:
    """Raise ApiError if the first request is for another endpoint. The supervisor checks all lines."""
    # A line that cannot be read is a problem of the file, which the failed batch lists.
    with suppress(InputError, ValueError, AttributeError):
        for _, line in raw_lines(path):
            found = orjson.loads(line).get("url", url)
            if found not in BATCH_URLS:
                raise invalid("endpoint", f"line 1 of the file is for {str(found)[:80]!r}, not {url}", INVALID_URL)
            return
