"""The state of a batch as people read it: a word, why nothing is sent, until when, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from mira_producer.cost.prices import money
from mira_producer.engine.options import with_new_limits
from mira_producer.gateway.batches.hidden_paths import batch_without_paths
from mira_queue.contract.batch import Batch, BatchFiles, BatchStatus, Kind, PausedBy
from mira_queue.contract.commands import Adopt, Cancel, Command, Pause, Resume, Retry

Mark = Literal["", "good", "bad", "warn", "active"]

_STATUSES: Mapping[BatchStatus, tuple[str, Mark]] = {
    BatchStatus.VALIDATING: ("checking lines", "active"),
    BatchStatus.IN_PROGRESS: ("running", "active"),
    BatchStatus.FINALIZING: ("finalizing", "active"),
    BatchStatus.COMPLETED: ("completed", "good"),
    BatchStatus.FAILED: ("invalid file", "bad"),
    BatchStatus.EXPIRED: ("expired", "bad"),
    BatchStatus.CANCELLING: ("cancelling", "warn"),
    BatchStatus.CANCELLED: ("cancelled", ""),
}
# A command that the supervisor has not carried out yet.
_COMMANDS: Mapping[type[Command], str] = {
    Pause: "pausing",
    Resume: "resuming",
    Retry: "retrying",
    Cancel: "cancelling",
    Adopt: "moving to another account",
}
_ADVICE_ON_WAIT: Mapping[Kind, str] = {
    "worker": "Start a worker for its account: mira-queue worker, or mira-queue serve --workers 1.",
}
# What to do about a pause. A message that says it has none.
_ADVICE: Mapping[PausedBy, str] = {
    "owner": "Resume it to send its other lines.",
    "account": "Fix the account (its balance, plan, or key), and then resume the batch. One line is sent first, to "
    "check the account. Answered lines are not sent again.",
    "budget": "Resume it with a larger budget.",
}


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as it is shown. `reason` says why nothing is sent, `until_ms` until when, and `advice` what to do.

    `command` is true while the supervisor has not carried out a command.
    """

    batch: Batch
    words: str
    mark: Mark
    has_command: bool = False
    reason: str = ""
    until_ms: float = 0.0
    message: str = ""
    advice: str = ""

    @property
    def pending(self) -> int:
        """Lines that have neither an answer nor an error."""
        return max(0, self.batch.total - self.batch.done)

    @property
    def is_open(self) -> bool:
        return not self.batch.status.is_final

    @property
    def can_pause(self) -> bool:
        return self.is_open and not self.batch.paused and self.words not in ("pausing", "cancelling")

    @property
    def can_resume(self) -> bool:
        """A run whose process has ended is resumed in a terminal."""
        is_gone = self.batch.is_run and self.batch.paused_by not in ("", "owner")
        return self.is_open and not is_gone and (bool(self.batch.paused) or self.words == "pausing")

    @property
    def can_cancel(self) -> bool:
        is_gone = self.batch.is_run and self.batch.paused_by not in ("", "owner")
        return self.is_open and not is_gone and self.words != "cancelling"

    @property
    def can_retry(self) -> bool:
        is_over = self.batch.is_run and (not self.is_open or self.batch.paused_by == "process")
        return bool(self.batch.failed) and self.batch.status is not BatchStatus.FAILED and not is_over

    @property
    def cost(self) -> str:
        """The cost so far; empty without prices."""
        return money(Decimal(self.batch.cost), self.batch.currency) if self.batch.cost else ""

    @property
    def max_cost(self) -> str:
        return money(Decimal(self.batch.options.max_cost), self.batch.currency) if self.batch.options.max_cost else ""

    @property
    def started_by(self) -> str:
        origin = self.batch.origin
        if self.batch.is_run:
            return "mira-queue run"
        if origin.user:
            return f"{origin.user}, on this page"
        return f"API key {origin.project}" if origin.project else "mira-queue submit"


def state_of(batch: Batch, command: Command | None = None) -> BatchState:
    """Return the state of a batch whose supervisor has not carried out a command yet, or has none."""
    if isinstance(command, Resume):
        batch = replace(batch, options=with_new_limits(batch.options, command))
    if command is not None and (not batch.status.is_final or isinstance(command, Retry)):
        mark: Mark = "warn" if isinstance(command, Cancel | Pause) else "active"
        return BatchState(batch, _COMMANDS[type(command)], mark, has_command=True)
    words, mark = _STATUSES[batch.status]
    if batch.status is BatchStatus.COMPLETED and batch.failed:
        words, mark = "completed, with errors", "warn"
    if batch.status.is_final or batch.status is BatchStatus.CANCELLING:
        return BatchState(batch, words, mark)
    if batch.paused:
        return _paused(batch)
    if batch.waiting.words:
        until_ms = 1000 * (batch.updated_at + batch.waiting.wait.total_seconds()) if batch.waiting.wait else 0.0
        reason, advice = _sentence(batch.waiting.words), _ADVICE_ON_WAIT.get(batch.waiting.kind, "")
        return BatchState(batch, "waiting", "warn", False, reason, until_ms, batch.waiting.message, advice)
    if batch.held_models:
        models = ", ".join(batch.held_models)
        reason = f"The account's plan lacks the models of some lines, which are not sent: {models}."
        return BatchState(batch, words, mark, reason=reason)
    return BatchState(batch, words, mark)


def without_paths(batch: Batch, files: BatchFiles | None, *, may_act: bool) -> Batch:
    """Return a batch as a user may see it: only an operator sees paths of this machine."""
    return batch if may_act or files is None else batch_without_paths(batch, files)


def _paused(batch: Batch) -> BatchState:
    reason = "A user has paused it." if batch.paused_by == "owner" else _sentence(batch.paused)
    return BatchState(batch, "paused", "warn", reason=reason, advice=_ADVICE.get(batch.paused_by, ""))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
