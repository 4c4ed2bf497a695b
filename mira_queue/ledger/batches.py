"""The batches' part of the ledger: what a batch is doing, for everybody to see, and what its owner wants of it.

Its keeper alone writes the batch; its owner alone writes wishes, which the keeper takes. Lines are in files, at the
keeper's; a batch costs the server the same whether it has ten lines or ten million.
"""

from __future__ import annotations

from typing import Any, cast

from mira_queue.contract import names
from mira_queue.contract.batch import Batch
from mira_queue.contract.errors import BatchNotFound
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.script_runner import ScriptRunner, decode


class Batches(ScriptRunner):
    """Verbs of batches."""

    def write_batch(self, batch: Batch) -> None:
        """Write it down; one that has ended lives on for the life of an outcome."""
        key = names.batch_key(batch.id)
        with translated_errors():
            pipeline = self._client.pipeline()
            pipeline.hset(key, "batch", batch.to_json())
            pipeline.zadd(names.BATCHES, {batch.id: batch.created_at}, nx=True)
            if batch.status.is_final:
                pipeline.pexpire(key, self._result_ttl_ms)
            else:
                pipeline.persist(key)
            pipeline.execute()

    def batch(self, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        with translated_errors():
            found = cast("bytes | None", self._client.hget(names.batch_key(batch_id), "batch"))
        if found is None:
            raise BatchNotFound(batch_id)
        return Batch.from_json(found)

    def batches(self) -> list[Batch]:
        """All that are kept, the newest first."""
        with translated_errors():
            ids = [decode(each) for each in cast("list[bytes]", self._client.zrevrange(names.BATCHES, 0, -1))]
            pipeline = self._client.pipeline(transaction=False)
            for batch_id in ids:
                pipeline.hget(names.batch_key(batch_id), "batch")
            found = cast("list[bytes | None]", pipeline.execute())
            gone = [batch_id for batch_id, each in zip(ids, found, strict=True) if each is None]
            if gone:
                self._client.zrem(names.BATCHES, *gone)
        return [Batch.from_json(each) for each in found if each is not None]

    def wish(self, batch_id: str, wish: str) -> None:
        """The owner wants it paused, resumed, cancelled, or lines of it tried again; the last wish counts.

        Raises BatchNotFound.
        """
        self.batch(batch_id)
        with translated_errors():
            self._client.hset(names.batch_key(batch_id), "wish", wish)

    def wish_of(self, batch_id: str) -> str:
        """What the owner wants, and was not done yet; empty: nothing."""
        with translated_errors():
            found: Any = self._client.hget(names.batch_key(batch_id), "wish")
        return decode(found) if found is not None else ""

    def wish_done(self, batch_id: str, wish: str) -> None:
        """It is done, unless there is a newer one by now."""
        self._run("batches/ack_command", [names.batch_key(batch_id)], [wish])

    def forget_batch(self, batch_id: str) -> None:
        with translated_errors():
            self._client.delete(names.batch_key(batch_id))
            self._client.zrem(names.BATCHES, batch_id)
