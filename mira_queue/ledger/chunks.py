"""Chunks of streamed answers, from the worker of the call to the clients that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mira_queue.contract import names
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms


@dataclass(frozen=True, slots=True)
class ReadChunks:
    """How far a client has read: the epoch of the attempt ('' for none yet), and its number of chunks."""

    job_id: str
    epoch: str = ""
    count: int = 0


class Chunks(ScriptRunner):
    """Operations on published chunks. They are a copy: the answer itself is the job's outcome."""

    def publish_chunks(self, lease: Lease, chunks: Sequence[bytes]) -> bool:
        """Publish chunks of the call under this lease. Return False if the lease is lost."""
        keys = [names.job_key(lease.job_id), names.chunks_key(lease.job_id)]
        for start in range(0, len(chunks), names.MAX_CHUNKS):
            piece = chunks[start : start + names.MAX_CHUNKS]
            if not self._run("jobs/publish_chunks", keys, [lease.epoch, in_ms(names.CHUNKS_TTL), *piece]):
                return False
        return True

    def read_chunks(self, clients: Sequence[ReadChunks]) -> list[tuple[str, list[bytes]]]:
        """Return for each client the epoch of the newest attempt, and those of its chunks that the client lacks."""
        keys = [names.chunks_key(client.job_id) for client in clients]
        args = [arg for client in clients for arg in (client.epoch, client.count)]
        return [(decode(epoch), chunks) for epoch, *chunks in self._run("jobs/read_chunks", keys, args)] if keys else []
