"""Batches in the ledger: the state of each batch, and the command that its supervisor has not carried out yet.

Only the supervisor writes the batch, except that a retry opens one that has ended. Owners write commands. Lines are in
files on the supervisor's machine, so a batch takes the same memory of the server for ten lines as for ten million.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import orjson

from mira_queue.contract import names
from mira_queue.contract.batch import Batch, BatchStatus
from mira_queue.contract.commands import Cancel, Command, Pause, Retry, from_json, may_replace, to_json
from mira_queue.contract.errors import BatchNotFound
from mira_queue.contract.project_limits import NO_LIMITS, LimitReached, ProjectLimits, nano
from mira_queue.contract.webhook import ENDPOINTS_ONLY, WebhookEvent, new_event_id
from mira_queue.ledger.script_runner import ScriptRunner, decode


class Batches(ScriptRunner):
    """Verbs of batches."""

    def add_batch(self, batch: Batch, limits: ProjectLimits = NO_LIMITS, lines: int = 1) -> bool:
        """Write a new batch, which a supervisor then runs. Return False if it exists.

        `lines` count as open until its supervisor has counted them. Raises LimitReached: nothing was written.
        """
        project = batch.origin.project
        args = [batch.id, batch.to_json(), batch.created_at, project, lines, nano(Decimal(batch.options.max_cost or 0))]
        answer = self._run("batches/add", _keys(batch.id, project), [*args, limits.max_open, limits.max_cost])
        return _allowed(answer)

    def reserve(self, batch: Batch, limits: ProjectLimits, *, lines: int = 0, cost: int = 0, needed: int = 0) -> None:
        """Count more open lines and more cost for a batch, before the command that allows them.

        `needed` is how much of the limit of the cost has to be left. Raises LimitReached. If the command fails,
        negative numbers, without limits, undo it.
        """
        keys = [names.batch_key(batch.id), names.usage_key(batch.origin.project)]
        _allowed(self._run("batches/reserve", keys, [lines, cost, needed, limits.max_open, limits.max_cost]))

    def write_batch(self, batch: Batch) -> None:
        """Write the batch. If it has ended, it expires with its outcomes; so does a run, whose files are its record.

        The first write of a final status adds the event for webhooks.
        """
        self._write(batch)

    def restore_batch(self, batch: Batch) -> Batch:
        """Write a batch that the ledger has lost. Return the batch that it has then.

        That is another one if the batch was not lost: it was added, or written, since the caller missed it.
        """
        return batch if self._write(batch, replaces=b"none") else self.batch(batch.id)

    def _write(self, batch: Batch, *, replaces: bytes = b"", command: bytes = b"") -> bool:
        """Write the batch. Return False if another one than `replaces`, or another command, is stored."""
        is_open = not (batch.status.is_final or batch.is_run)
        project = batch.origin.project
        keys = [*_keys(batch.id, project), *names.webhook_keys(project)]
        args = [batch.id, batch.to_json(), batch.status, batch.created_at, int(is_open)]
        args += ["" if is_open else self._result_ttl_ms, _event_of(batch), project, *_usage_of(batch)]
        return bool(self._run("batches/write", keys, [*args, replaces, command]))

    def batch(self, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        found = cast("bytes | None", self._client.hget(names.batch_key(batch_id), "batch"))
        if found is None:
            raise BatchNotFound(batch_id)
        return Batch.from_json(found)

    def batches(self) -> list[Batch]:
        """Return all batches, the newest first."""
        ids = [decode(each) for each in cast("list[bytes]", self._client.zrevrange(names.BATCHES, 0, -1))]
        pipeline = self._client.pipeline(transaction=False)
        for batch_id in ids:
            pipeline.hget(names.batch_key(batch_id), "batch")
        found = cast("list[bytes | None]", pipeline.execute())
        gone = [batch_id for batch_id, each in zip(ids, found, strict=True) if each is None]
        if gone:
            self._client.zrem(names.BATCHES, *gone)
        return [Batch.from_json(each) for each in found if each is not None]

    def batches_after(self, place: tuple[int, str] | None, count: int) -> list[tuple[Batch, Command | None]]:
        """Return at most `count` batches, the newest first, each with its command that was not carried out yet.

        They are those after a place: the time of creation and the ID of a batch, which need not exist any more. The
        cost does not grow with the number of batches.
        """
        found: list[tuple[Batch, Command | None]] = []
        begin = 0 if place is None else self._client.zcount(names.BATCHES, f"({place[0]}", "+inf")
        while len(found) < count:
            ids = cast(
                "list[tuple[bytes, float]]",
                self._client.zrevrange(names.BATCHES, begin, begin + count - 1, withscores=True),
            )
            begin += count
            after = [decode(each) for each, at in ids if place is None or (int(at), decode(each)) < place]
            pipeline = self._client.pipeline(transaction=False)
            for batch_id in after:
                pipeline.hmget(names.batch_key(batch_id), ["batch", "command"])
            records = cast("list[tuple[bytes | None, bytes | None]]", pipeline.execute())
            found += [
                (Batch.from_json(batch), from_json(command) if command else None)
                for batch, command in records
                if batch is not None
            ]
            if len(ids) < count:
                break
        return found[:count]

    def open_batches(self) -> list[str]:
        """Return the IDs of the batches that a supervisor has to run. It costs the same however many have finished."""
        return [decode(each) for each in cast("set[bytes]", self._client.smembers(names.OPEN_BATCHES))]

    def send_command(self, batch_id: str, command: Command) -> bool:
        """Store a command for the batch's supervisor. Return False if an earlier one has to be carried out first.

        After a pause or a cancel, no call of the batch starts, whatever its supervisor does. Raises BatchNotFound.
        """
        key = names.batch_key(batch_id)
        args = [to_json(command), int(isinstance(command, Pause | Cancel)), names.HOLDS_CHANNEL]
        while True:
            batch, pending = cast("list[bytes | None]", self._client.hmget(key, ["batch", "command"]))
            if batch is None:
                raise BatchNotFound(batch_id)
            if pending is not None:
                has_ended = Batch.from_json(batch).status.is_final
                if not may_replace(command, from_json(pending), has_ended=has_ended):
                    return False
            # Otherwise, another command has arrived, or the supervisor has carried out the pending one.
            if self._run("batches/send_command", [key, names.HOLDS], [*args, pending or b""]) == 1:
                return True

    def command_of(self, batch_id: str) -> Command | None:
        """Return the command that has not been carried out yet."""
        found: Any = self._client.hget(names.batch_key(batch_id), "command")
        return None if found is None else from_json(found)

    def ack_command(self, batch_id: str, command: Command) -> None:
        """Remove a command that was carried out, unless a newer one has replaced it."""
        # As it is stored: a newer version may have written fields that this one does not know.
        found: Any = self._client.hget(names.batch_key(batch_id), "command")
        if found is not None and from_json(found) == command:
            self._run("batches/ack_command", [names.batch_key(batch_id)], [found])

    def reopen_for_retry(self, batch_id: str, now_s: int) -> Batch:
        """Open a batch that has ended while a retry is commanded. Return the batch. Raises BatchNotFound.

        Once the supervisor has carried out the retry, the batch may have ended again: that end stays.
        """
        key = names.batch_key(batch_id)
        while True:
            seen, command = cast("list[bytes | None]", self._client.hmget(key, ["batch", "command"]))
            if seen is None:
                raise BatchNotFound(batch_id)
            batch = Batch.from_json(seen)
            if not batch.status.is_final or command is None or not isinstance(from_json(command), Retry):
                return batch
            opened = batch.moved(BatchStatus.IN_PROGRESS, now_s)
            if self._write(opened, replaces=seen, command=command):
                return opened

    def hold(self, group: str) -> None:
        """Keep the jobs of a batch from starting. Those that wait for a permit return to the queue, without a message.

        The first to know the reason sets the hold: the command, or the supervisor. Only the supervisor removes it.
        Calls in flight continue. A rejection of the account holds the account's jobs in the same way, for some seconds.
        """
        self._run("batches/hold", [names.HOLDS], [group, names.HOLDS_CHANNEL])

    def unhold(self, batch_id: str, group: str, account: str) -> bool:
        """Let the batch's jobs of its account start again. Return False if a command has to be carried out first.

        The batch that is written must name the group by now: a pause that arrives after this holds it.
        """
        return bool(self._run("batches/unhold", [names.batch_key(batch_id), names.HOLDS], [group, account]))

    def forget_batch(self, batch_id: str, project: str = "") -> None:
        self._run("batches/forget", _keys(batch_id, project), [batch_id, project])


def _keys(batch_id: str, project: str) -> list[str]:
    return [names.batch_key(batch_id), names.BATCHES, names.OPEN_BATCHES, names.usage_key(project)]


def _allowed(answer: Any) -> bool:
    """Raises LimitReached."""
    if isinstance(answer, bytes):
        raise LimitReached("open" if decode(answer) == "open" else "cost")
    return bool(answer)


def _usage_of(batch: Batch) -> tuple[int | str, int, int]:
    """Return what counts for the limits of its project: open lines ("": not counted yet), reserved cost, and cost."""
    cost = nano(Decimal(batch.cost or 0))
    if batch.status.is_final:
        return 0, 0, cost
    return (
        batch.total - batch.done if batch.total else "",
        max(0, nano(Decimal(batch.options.max_cost or 0)) - cost),
        cost,
    )


def _event_of(batch: Batch) -> bytes:
    """Return the event that the batch has ended, or nothing: it has not, or nothing can receive its event."""
    webhook = batch.options.webhook or (ENDPOINTS_ONLY if batch.origin.project else "")
    if not batch.status.is_final or not webhook:
        return b""
    event = WebhookEvent(
        new_event_id(),
        f"batch.{batch.status}",
        batch.ended_at,
        batch.id,
        batch.origin.project,
        webhook,
        metadata=orjson.dumps(batch.metadata).decode(),
    )
    return event.to_json()
