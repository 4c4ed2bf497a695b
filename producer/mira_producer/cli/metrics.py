"""`mira-queue metrics`: the queue in numbers, for Prometheus. docs/metrics.md lists them all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mira_producer.cli import console
from mira_producer.client import MiraQueue
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.queue_stats import QueueStats

HELP_END = console.help_end(
    [
        ("mira-queue metrics", "at http://127.0.0.1:9464/metrics"),
        ("mira-queue metrics --once | grep gate", "now, without a server"),
        ("mira-queue metrics --host 0.0.0.0 --port 9100", "for a Prometheus on another machine: no password is asked"),
    ],
    {
        0: "printed, or ended by SIGTERM",
        1: "--once: the queue's server does not answer",
        2: "wrong usage or setting, or the port is taken",
        130: "ended by Ctrl-C",
    },
)

Value = tuple[tuple[str, ...], float]  # labels, and the number


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. `values` has none where there is nothing to tell: a limit that is not known is not 0."""

    name: str
    help: str
    labels: Sequence[str]
    values: Callable[[QueueStats], Iterable[Value]]

    def of(self, overview: QueueStats) -> Metric:
        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for labels, value in self.values(overview):
            family.add_metric(labels, value)
        return family


def _of_accounts(name: str, text: str, value: Callable[[PaceView], float | None]) -> Measure:
    def values(overview: QueueStats) -> Iterator[Value]:
        for view in overview.accounts:
            if (found := value(view)) is not None:
                yield (view.account, view.base), found

    return Measure(name, text, ("account", "base"), values)


def _of_gates(name: str, text: str, limit: Callable[[PaceView], float], faults: Callable[[PaceView], float]) -> Measure:
    def values(overview: QueueStats) -> Iterator[Value]:
        for view in overview.accounts:
            yield (view.account, view.base, "limit"), limit(view)
            yield (view.account, view.base, "faults"), faults(view)

    return Measure(name, text, ("account", "base", "reason"), values)


def _lines(overview: QueueStats) -> Iterator[Value]:
    batches = overview.open_batches
    yield ("total",), sum(batch.total for batch in batches)
    yield ("answered",), sum(batch.answered for batch in batches)
    yield ("failed",), sum(batch.failed for batch in batches)


def _statuses(overview: QueueStats) -> Iterator[Value]:
    for status in BatchStatus:
        if not status.is_final:
            yield (status,), sum(batch.status is status for batch in overview.open_batches)


# One row a metric, as in docs/metrics.md.
MEASURES = (
    _of_accounts("mira_queue_calls_in_flight", "Calls that are under way.", lambda view: view.in_flight),
    _of_accounts("mira_queue_processes_waiting", "Worker processes that wait for a place.", lambda view: view.waiting),
    _of_accounts(
        "mira_queue_limit_calls",
        "Most calls in any window, as learned.",
        lambda view: view.estimate.rate.max_calls if view.estimate.rate else None,
    ),
    _of_accounts(
        "mira_queue_limit_window_seconds",
        "The window of that limit.",
        lambda view: view.estimate.rate.retry_after_ms / 1000 if view.estimate.rate else None,
    ),
    _of_accounts(
        "mira_queue_limit_in_flight_calls",
        "Most calls at a time, as learned.",
        lambda view: view.estimate.in_flight.max_calls if view.estimate.in_flight else None,
    ),
    _of_accounts(
        "mira_queue_let_through_calls",
        "Calls in a window that are let through now.",
        lambda view: view.estimate.rate.allowed if view.estimate.rate else None,
    ),
    _of_accounts(
        "mira_queue_let_through_in_flight_calls",
        "Calls at a time that are let through now.",
        lambda view: view.estimate.in_flight.allowed if view.estimate.in_flight else view.estimate.start,
    ),
    _of_gates(
        "mira_queue_gate_closed",
        "1 from when the gate closes until a probe is answered.",
        lambda view: view.breaker == "limit",
        lambda view: view.breaker == "faults",
    ),
    _of_accounts(
        "mira_queue_gate_remaining_seconds", "Nothing leaves before.", lambda view: view.open_for.total_seconds()
    ),
    _of_accounts("mira_queue_calls_sent_total", "Calls that were let go.", lambda view: view.counts.sent),
    _of_accounts("mira_queue_calls_refused_total", "Calls that met a 429.", lambda view: view.counts.rate_limited),
    _of_gates(
        "mira_queue_gate_closings_total",
        "Times the gate closed.",
        lambda view: view.counts.openings_limit,
        lambda view: view.counts.openings_faults,
    ),
    _of_accounts(
        "mira_queue_belief_changes_total",
        "Changes of what is believed of the limits.",
        lambda view: view.counts.estimate_changes,
    ),
    Measure(
        "mira_queue_jobs_queued",
        "Jobs that no worker has taken yet.",
        ("lane",),
        lambda overview: (((lane.name.lower(),), count) for lane, count in overview.queued.items()),
    ),
    Measure(
        "mira_queue_messages",
        "Messages in Celery's queues.",
        ("lane",),
        lambda overview: (((lane.name.lower(),), count) for lane, count in overview.messages.items()),
    ),
    Measure("mira_queue_jobs_leased", "Jobs that workers have in hand.", (), lambda overview: [((), overview.leased)]),
    Measure("mira_queue_jobs_waiting", "Jobs that wait to be tried again.", (), lambda view: [((), view.waiting)]),
    Measure("mira_queue_batches", "Batches that have not ended.", ("status",), _statuses),
    Measure("mira_queue_batch_lines", "Lines of the batches that have not ended.", ("state",), _lines),
    Measure(
        "mira_queue_server_memory_bytes",
        "Memory that the queue's server uses.",
        (),
        lambda overview: [((), overview.server_bytes)],
    ),
)


class QueueCollector:
    """Looks at the queue at every scrape, and keeps nothing."""

    def __init__(self, queue: MiraQueue) -> None:
        self._queue = queue

    def describe(self) -> list[Metric]:
        """Names are not checked for duplicates: whoever registers this needs no server for it."""
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("mira_queue_up", "1 when the queue's server answered; 0: no other metric is told.")
        try:
            overview = self._queue.ledger.queue_stats()
        except QueueUnavailable:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield from (measure.of(overview) for measure in MEASURES)


def metrics(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0: any that is free.")] = 9464,
    once: Annotated[bool, typer.Option("--once", help="Print them, and end.")] = False,
) -> None:
    """Serve the queue's numbers to Prometheus.

    One such process is enough for a queue and all of its workers: the numbers are read from the queue's server at every
    scrape. While that is away, mira_queue_up is 0. docs/metrics.md lists them; no key and no prompt is in any.
    """
    signal.signal(signal.SIGTERM, _end)
    with MiraQueue() as queue:
        registry = CollectorRegistry()
        registry.register(QueueCollector(queue))
        if once:
            # Said as every command says it, where the server is away.
            queue.ledger.accounts()
            console.data(generate_latest(registry).decode())
            return
        try:
            server, _ = start_http_server(port, host, registry)
        except OSError as error:
            console.error(f"cannot listen on {host}, port {port}: {error.strerror}")
            raise typer.Exit(console.EXIT_USAGE) from error
        console.message(f"metrics at http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics")
        threading.Event().wait()


def _end(*_: object) -> None:
    raise typer.Exit
