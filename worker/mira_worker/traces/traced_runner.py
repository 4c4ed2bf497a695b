"""Runs jobs as JobRunner does, and records spans. Without traces, JobRunner itself runs: that costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from mira_queue.contract.settings import Settings
from mira_queue.contract.timeline import CallRecord
from mira_queue.ledger.records import Lease
from mira_queue.runtime import span_export
from mira_worker.decision import Decision
from mira_worker.pacing.waiting_line import HeldPermit
from mira_worker.runner import JobRunner, Next
from mira_worker.traces.attempt import Attempt, CurrentAttempt, error_code
from mira_worker.traces.chat_spans import ChatSpans
from mira_worker.traces.http_spans import TimedTransport
from mira_worker.traces.process_spans import ProcessSpans
from mira_worker.transport import Transport


class Traces:
    """The traces of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self.current = CurrentAttempt()
        self.processes = ProcessSpans(settings.trace_ratio)

    def transport(self, transport: Transport) -> Transport:
        return TimedTransport(transport, self.current)

    def runner(self, base: str) -> partial[TracedRunner]:
        """Return the class of runners for one base."""
        return partial(TracedRunner, self, ChatSpans(self.processes.provider.get_tracer(span_export.SCOPE), base))

    def close(self) -> None:
        """Export the last spans."""
        span_export.close(self.processes.provider)


class TracedRunner(JobRunner):
    """Runs jobs of one account. `parts` are those of JobRunner."""

    __slots__ = ("_chats", "_traces")

    def __init__(self, traces: Traces, chats: ChatSpans, *parts: Any) -> None:
        super().__init__(*parts)
        self._traces = traces
        self._chats = chats

    def finish_poison(self, lease: Lease) -> None:
        with self._recorded(lease):
            super().finish_poison(lease)

    def finish_expired(self, lease: Lease) -> None:
        with self._recorded(lease):
            super().finish_expired(lease)

    def _attempt(self, lease: Lease) -> Next:
        with self._recorded(lease):
            return super()._attempt(lease)

    def _call(self, held: HeldPermit) -> tuple[Decision, CallRecord]:
        attempt = self._traces.current.attempt
        assert attempt is not None
        attempt.call_began_ns = time.time_ns()
        decision, call = super()._call(held)
        processes = self._traces.processes
        if error_code(decision) or processes.is_sampled(held.lease):
            self._chats.write(attempt, decision, set_span_in_context(processes.span_of(attempt), Context()))
        return decision, call

    def _apply(self, lease: Lease, decision: Decision, call: CallRecord | None = None) -> Next:
        if (attempt := self._traces.current.attempt) is not None:
            attempt.decision = decision
        return super()._apply(lease, decision, call)

    @contextmanager
    def _recorded(self, lease: Lease) -> Iterator[None]:
        current, code = self._traces.current, ""
        attempt = current.attempt = Attempt(lease)
        try:
            yield
        except BaseException as error:
            # Only its class: its message may quote the prompt.
            code = type(error).__name__
            raise
        finally:
            current.attempt = None
            self._traces.processes.end(attempt, code or error_code(attempt.decision))
