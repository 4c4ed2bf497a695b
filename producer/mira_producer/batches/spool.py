"""Where the files of batches live: a directory for each, on the machine where it was submitted."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mira_producer.jsonl.errors import InputError
from mira_queue.runtime.private_files import make_private_dir, private_opener


@dataclass(frozen=True, slots=True)
class BatchFiles:
    """The files of one batch. Input is what was submitted, byte for byte; the others hold complete lines always."""

    folder: Path

    @property
    def input(self) -> Path:
        return self.folder / "input.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / "output.jsonl"

    @property
    def errors(self) -> Path:
        return self.folder / "errors.jsonl"

    @property
    def prices(self) -> Path:
        """The price table that it was submitted with, if it was."""
        return self.folder / "prices.toml"

    @property
    def queue(self) -> Path:
        """Names the queue that it was submitted to: only that one's keeper knows whether it is still wanted."""
        return self.folder / "queue"

    @property
    def record(self) -> Path:
        """What a report is drawn from, beside output and errors."""
        return self.folder / "record.json"


class Spool:
    """All batches' files below the state directory. Workers need none of it: they get their jobs from the server."""

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir.expanduser() / "batches"

    def files(self, batch_id: str) -> BatchFiles:
        return BatchFiles(self.root / batch_id)

    def place(self, batch_id: str) -> str:
        """For people: machine and directory."""
        return f"{socket.gethostname()}:{self.files(batch_id).folder}"

    def holds(self, batch_id: str) -> bool:
        return self.files(batch_id).input.is_file()

    def receive(self, batch_id: str, source: Path, queue_name: str, prices: Path | None = None) -> BatchFiles:
        """Copy the input, whole and synced, so that the submitter may change or remove his; and the price table.

        Raises InputError.
        """
        files = self.files(batch_id)
        part = files.folder / "input.part"
        try:
            make_private_dir(self.root.parent)
            make_private_dir(files.folder)
            with open(files.queue, "w", opener=private_opener) as write_name:
                write_name.write(queue_name)
            if prices is not None:
                with prices.open("rb") as read, open(files.prices, "wb", opener=private_opener) as write:
                    shutil.copyfileobj(read, write)
            with source.open("rb") as read, open(part, "xb", opener=private_opener) as write:
                shutil.copyfileobj(read, write, 1024 * 1024)
                write.flush()
                os.fsync(write.fileno())
            part.rename(files.input)
        except OSError as error:
            self.remove(batch_id)
            where = error.filename or source
            raise InputError(f"{where}: {error.strerror}: nothing was submitted") from None
        return files

    def ids(self, queue_name: str = "") -> Iterator[tuple[str, float]]:
        """(batch id, Unix time of its last change) of all that are there, or of those of one queue."""
        if self.root.is_dir():
            for folder in self.root.iterdir():
                if folder.is_dir() and (not queue_name or _text(BatchFiles(folder).queue) == queue_name):
                    yield folder.name, folder.stat().st_mtime

    def remove(self, batch_id: str) -> None:
        shutil.rmtree(self.files(batch_id).folder, ignore_errors=True)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
