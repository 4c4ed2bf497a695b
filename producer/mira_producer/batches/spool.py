"""Files of batches below the state directory: a folder per submitted batch, and the records of runs."""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mira_producer.jsonl.errors import InputError
from mira_queue.contract.batch import Batch, BatchFiles
from mira_queue.runtime.private_files import make_private_dir, private_opener

# The batch as of its last change of status: with it, the batch survives the loss of the server's data.
_BATCH = "batch.json"
# Names the queue that a batch was submitted to: only that queue's supervisor knows whether the batch still exists.
_QUEUE = "queue"
# Path of the accounts file of the process that has submitted the batch.
_ACCOUNTS = "accounts"


class Spool:
    """All batches of a state directory. Workers need none of these files: they get their jobs from the server."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir.expanduser() / "batches"
        self._runs = state_dir.expanduser() / "runs"

    def folder(self, batch_id: str) -> Path:
        return self.root / batch_id

    def files(self, batch_id: str) -> BatchFiles:
        """Return the files of a submitted batch. The input is what was submitted, byte for byte."""
        folder = self.folder(batch_id)
        names = ("input.jsonl", "output.jsonl", "errors.jsonl", "record.json", "prices.toml")
        return BatchFiles(*(folder / name for name in names))

    def place(self, batch_id: str) -> str:
        """Return the machine and the directory, for people."""
        return f"{socket.gethostname()}:{self.folder(batch_id)}"

    def holds(self, batch_id: str) -> bool:
        """Return True if this is a submitted batch whose files are here."""
        return self.files(batch_id).input.is_file()

    def files_of(self, batch: Batch) -> BatchFiles | None:
        """Return the files of a batch, or None if they are on another machine."""
        if batch.files is None:
            return self.files(batch.id) if self.holds(batch.id) else None
        is_here = batch.place.startswith(f"{socket.gethostname()}:") and batch.files.record.parent.is_dir()
        return batch.files if is_here else None

    def record_of_run(self, batch_id: str) -> Path:
        return self._runs / f"{batch_id}.json"

    def has_runs(self) -> bool:
        """Return True if a run of this state directory may be in the ledger."""
        return any(self._runs.glob("batch_*"))

    def remove_old_records(self, max_age_s: float) -> None:
        """Remove the records of runs that the ledger does not know any more."""
        for path in self._runs.glob("batch_*"):
            if time.time() - path.stat().st_mtime > max_age_s:
                path.unlink(missing_ok=True)

    def receive(
        self,
        batch_id: str,
        source: Path,
        queue_name: str,
        prices: bytes | None = None,
        *,
        accounts: Path | None = None,
        link: bool = False,
    ) -> BatchFiles:
        """Copy the input, complete and synced, so that the user may change or remove it; and the price table.

        With `link`, the source is synced and never changes: it gets a second name, if the file system allows that. If
        the request that submits it is repeated, the input is here already. Raise InputError.
        """
        folder, files = self.folder(batch_id), self.files(batch_id)
        if self.holds(batch_id):
            return files
        # The same request may be handled twice at the same time.
        part = folder / f"input.{uuid.uuid4().hex}.part"
        try:
            make_private_dir(self.root.parent)
            make_private_dir(folder)
            with open(folder / _QUEUE, "w", opener=private_opener) as queue_file:
                queue_file.write(queue_name)
            if accounts is not None:
                (folder / _ACCOUNTS).write_text(str(accounts))
            if prices is not None:
                with open(files.prices, "wb", opener=private_opener) as write:
                    write.write(prices)
            if not (link and _linked(source, part)):
                with source.open("rb") as read, open(part, "xb", opener=private_opener) as write:
                    shutil.copyfileobj(read, write, 1024 * 1024)
                    write.flush()
                    os.fsync(write.fileno())
            part.rename(files.input)
        except OSError as error:
            if not self.holds(batch_id):
                self.remove(batch_id)
            where = error.filename or source
            raise InputError(f"{where}: {error.strerror}: nothing was submitted") from None
        return files

    def accounts_file(self, batch_id: str) -> Path | None:
        """Return the accounts file with which a batch was submitted; None if there was none."""
        path = _text(self.folder(batch_id) / _ACCOUNTS)
        return Path(path) if path else None

    def remember(self, batch: Batch, *, is_first: bool = False) -> None:
        """Write a copy of a submitted batch next to its files. Without room for it, the batch still runs.

        The first copy does not replace one of the supervisor, which may be ahead of the submission.
        """
        path = self.folder(batch.id) / _BATCH
        part = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            with open(part, "wb", opener=private_opener) as copy:
                copy.write(batch.to_json())
                copy.flush()
                os.fsync(copy.fileno())
            if not is_first:
                part.replace(path)
                return
            try:
                path.hardlink_to(part)
            finally:
                part.unlink()

    def remembered(self, batch_id: str, queue_name: str) -> Batch | None:
        """Return the copy of a batch that was submitted to this queue, if its files are here."""
        folder = self.folder(batch_id)
        with suppress(OSError, ValueError):
            if self.holds(batch_id) and _text(folder / _QUEUE) == queue_name:
                return Batch.from_json((folder / _BATCH).read_bytes())
        return None

    def folders(self) -> set[str]:
        """Return the ids of all submitted batches whose files are here, without reading one."""
        return {path.name for path in self.root.glob("batch_*")}

    def ids(self, queue_name: str = "") -> Iterator[tuple[str, float]]:
        """Yield the id of every submitted batch, or of those of one queue, and the Unix time of its last change."""
        if self.root.is_dir():
            for folder in self.root.iterdir():
                # Another process may remove it meanwhile.
                with suppress(OSError):
                    if folder.is_dir() and (not queue_name or _text(folder / _QUEUE) == queue_name):
                        yield folder.name, folder.stat().st_mtime

    def remove(self, batch_id: str) -> None:
        shutil.rmtree(self.folder(batch_id), ignore_errors=True)


def lock_of_run(files: BatchFiles) -> Path:
    """Return the file that the process of a run keeps locked."""
    return files.record.with_suffix(".lock")


def _linked(source: Path, target: Path) -> bool:
    """Link the file. Return False if the file system does not allow it."""
    with suppress(OSError):
        target.hardlink_to(source)
        return True
    return False


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
