"""Runs jobs as JobRunner does, and records spans. Without traces, JobRunner itself runs: that costs nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

from opentelemetry.trace import get_current_span

from mira_queue.contract.settings import Settings
from mira_queue.ledger.records import Lease
from mira_worker.decision import Decision
from mira_worker.pacing.waiting_line import HeldPermit
from mira_worker.runner import JobRunner, Next
from mira_worker.traces.chat_spans import ChatSpans, record_call
from mira_worker.traces.http_spans import TracedTransport
from mira_worker.traces.job_spans import JobSpans, record_decision
from mira_worker.transport import Transport


class TracedRunner(JobRunner):
    """Runs jobs of one account. `parts` are those of JobRunner."""

    __slots__ = ("_chats", "_jobs")

    def __init__(self, jobs: JobSpans, chats: ChatSpans, *parts: Any) -> None:
        super().__init__(*parts)
        self._jobs = jobs
        self._chats = chats

    def finish_poison(self, lease: Lease) -> None:
        with self._jobs.process(lease):
            super().finish_poison(lease)

    def finish_expired(self, lease: Lease) -> None:
        with self._jobs.process(lease):
            super().finish_expired(lease)

    def _attempt(self, lease: Lease) -> Next:
        with self._jobs.process(lease):
            return super()._attempt(lease)

    def _call(self, held: HeldPermit) -> Decision:
        lease = held.lease
        with self._chats.chat(lease) as chat:
            decision = super()._call(held)
            record_call(chat, decision, lease.body)
            return decision

    def _apply(self, lease: Lease, decision: Decision) -> Next:
        record_decision(get_current_span(), decision)
        return super()._apply(lease, decision)


class Traces:
    """The traces of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self._jobs = JobSpans(settings.trace_ratio)

    def transport(self, transport: Transport, base: str) -> Transport:
        return TracedTransport(transport, base, self._jobs.tracer)

    def runner(self, base: str) -> partial[TracedRunner]:
        """Return the class of runners for one base."""
        return partial(TracedRunner, self._jobs, ChatSpans(self._jobs.provider, base))

    def close(self) -> None:
        """Export the last spans."""
        self._jobs.close()
