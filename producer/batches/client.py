"""Batches from Python: `queue.batches.submit("requests.jsonl")`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mira_queue.contract.batch import Batch, BatchOptions, BatchStatus, new_batch_id
from mira_queue.contract.errors import MiraQueueError
from producer.batches.lock import KeeperLock
from producer.batches.results import copy_lines
from producer.batches.spool import Spool
from producer.batches.starting import ensure_keeper
from producer.run.source import InputError

if TYPE_CHECKING:
    from producer.client import MiraQueue

# What an owner may wish of a batch; a retry is followed by the statuses or codes that it is for.
PAUSE, RESUME, CANCEL, RETRY = "pause", "resume", "cancel", "retry"


class BatchRefused(MiraQueueError):
    """What is asked of a batch makes no sense where it is now."""


class Batches:
    """The batches of a queue. Any process may ask and wish; files are read where the batch was submitted."""

    def __init__(self, queue: MiraQueue) -> None:
        self._queue = queue
        self.spool = Spool(queue.settings.state_dir)

    def submit(
        self, path: Path | str, *, options: BatchOptions | None = None, metadata: Mapping[str, str] | None = None
    ) -> Batch:
        """Hand in a file; returns at once, while its lines are still being checked.

        The file is copied: it may change or go afterwards. Raises InputError (it cannot be read), QueueUnavailable.
        """
        source = Path(path)
        if not source.is_file():
            raise InputError(f"{source}: no such file: give a file with one JSON request a line")
        batch_id = new_batch_id()
        self.spool.receive(batch_id, source)
        now_s = int(time.time())
        batch = Batch(
            batch_id,
            BatchStatus.VALIDATING,
            source.name,
            self.spool.place(batch_id),
            now_s,
            options or BatchOptions(),
            dict(metadata or {}),
            {BatchStatus.VALIDATING.value: now_s},
        )
        try:
            self._queue.ledger.write_batch(batch)
        except BaseException:
            self.spool.remove(batch_id)
            raise
        self._tend(batch)
        return batch

    def get(self, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        batch = self._queue.ledger.batch(batch_id)
        self._tend(batch)
        return batch

    def all(self) -> list[Batch]:
        """The newest first."""
        batches = self._queue.ledger.batches()
        for batch in batches:
            self._tend(batch)
        return batches

    def pause(self, batch_id: str) -> None:
        """Send no more of it; calls in flight end. Raises BatchNotFound, BatchRefused."""
        self._wish(batch_id, PAUSE)

    def resume(self, batch_id: str) -> None:
        """Go on: with one line, and the rest when the account does not refuse that. Raises as `pause`."""
        batch = self.get(batch_id)
        if not batch.status.is_final and not batch.paused:
            raise BatchRefused(f"batch {batch_id} is not paused: it goes on")
        self._wish(batch_id, RESUME)

    def cancel(self, batch_id: str) -> None:
        """Send no more of it, ever; lines that were not run become errors, `batch_cancelled`. Raises as `pause`."""
        self._wish(batch_id, CANCEL)

    def retry(self, batch_id: str, statuses: Sequence[str] = ()) -> None:
        """Try failed lines again: all, or those with these statuses ("402", "5xx") or codes ("poison").

        Raises BatchNotFound, BatchRefused.
        """
        batch = self.get(batch_id)
        if batch.status is BatchStatus.FAILED:
            raise BatchRefused(f"batch {batch_id}: its input is wrong: mend the file and submit it anew")
        if not self.spool.holds(batch_id):
            raise BatchRefused(f"batch {batch_id}: its files are at {batch.place}: ask there")
        self._queue.ledger.wish(batch_id, " ".join([RETRY, *statuses]))
        if batch.status.is_final:
            batch = batch.moved(BatchStatus.IN_PROGRESS, int(time.time()))
            self._queue.ledger.write_batch(batch)
        self._tend(batch)

    def results(self, batch_id: str, output: Path, errors: Path | None = None) -> tuple[int, int]:
        """Copy what it has by now, complete lines; returns how many answers and errors that are.

        Raises BatchNotFound, BatchRefused when its files are on another machine, InputError.
        """
        batch = self.get(batch_id)
        if not self.spool.holds(batch_id):
            raise BatchRefused(f"batch {batch_id}: its files are at {batch.place}: ask there")
        files = self.spool.files(batch_id)
        return copy_lines(files.output, output), copy_lines(files.errors, errors) if errors else 0

    def _wish(self, batch_id: str, wish: str) -> None:
        batch = self.get(batch_id)
        if batch.status.is_final:
            raise BatchRefused(f"batch {batch_id} has ended: {batch.status}")
        self._queue.ledger.wish(batch_id, wish)

    def _tend(self, batch: Batch) -> None:
        """A batch that is open, whose files are here, and that nobody keeps: its keeper was killed, or the machine."""
        if batch.status.is_final or not self.spool.holds(batch.id):
            return
        if not KeeperLock(self.spool, self._queue.redis_url).is_taken():
            ensure_keeper(self._queue.settings)
