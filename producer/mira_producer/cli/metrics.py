"""`mira-queue metrics`: numbers of the queue for Prometheus. docs/metrics.md lists them all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
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
        ("mira-queue metrics", "serve them at http://127.0.0.1:9464/metrics"),
        ("mira-queue metrics --once | grep breaker", "print the current ones, without a server"),
        ("mira-queue metrics --host 0.0.0.0 --port 9100", "for a Prometheus on another machine; there is no password"),
    ],
    {
        0: "printed, or stopped by SIGTERM",
        1: "--once: the queue's server is unavailable",
        2: "wrong usage or setting, or the port is in use",
        130: "stopped by Ctrl-C",
    },
)

# Metric, its help, and its value. None means that there is none: a limit that is not known is not 0.
OF_ACCOUNTS: tuple[tuple[str, str, Callable[[PaceView], float | None]], ...] = (
    ("calls_in_flight", "Calls in flight.", lambda view: view.in_flight),
    ("processes_waiting", "Worker processes that wait for a permit.", lambda view: view.waiting),
    (
        "rate_limit_calls",
        "Learned rate limit: calls per window.",
        lambda view: view.estimate.rate.max_calls if view.estimate.rate else None,
    ),
    (
        "rate_limit_window_seconds",
        "Window of that limit.",
        lambda view: view.estimate.rate.retry_after_ms / 1000 if view.estimate.rate else None,
    ),
    (
        "concurrency_limit_calls",
        "Learned concurrency limit: calls in flight.",
        lambda view: view.estimate.in_flight.max_calls if view.estimate.in_flight else None,
    ),
    (
        "allowed_calls",
        "Calls per window that are allowed now.",
        lambda view: view.estimate.rate.allowed if view.estimate.rate else None,
    ),
    (
        "allowed_in_flight_calls",
        "Calls in flight that are allowed now.",
        lambda view: view.estimate.in_flight.allowed if view.estimate.in_flight else view.estimate.start,
    ),
    ("breaker_remaining_seconds", "Time until a probe may start.", lambda view: view.open_for.total_seconds()),
    ("calls_sent_total", "Calls that started.", lambda view: view.counts.sent),
    ("calls_rate_limited_total", "Calls that got a 429.", lambda view: view.counts.rate_limited),
    ("estimate_changes_total", "Changes of the learned limits.", lambda view: view.counts.estimate_changes),
)
# The same, with a value for each reason: rate limits, and faults of the service.
OF_BREAKERS: tuple[tuple[str, str, Callable[[PaceView], tuple[float, float]]], ...] = (
    (
        "breaker_open",
        "1 from when the circuit breaker opens until a probe succeeds.",
        lambda view: (view.breaker == "limit", view.breaker == "faults"),
    ),
    (
        "breaker_openings_total",
        "Times the circuit breaker opened.",
        lambda view: (view.counts.openings_limit, view.counts.openings_faults),
    ),
)
# Metric, its help, its label, and a value for each value of the label.
OF_QUEUE: tuple[tuple[str, str, str, Callable[[QueueStats], Mapping[str, float]]], ...] = (
    (
        "jobs_queued",
        "Jobs that no worker has taken yet.",
        "lane",
        lambda stats: {lane.name.lower(): count for lane, count in stats.queued.items()},
    ),
    (
        "messages",
        "Messages in Celery's queues.",
        "lane",
        lambda stats: {lane.name.lower(): count for lane, count in stats.messages.items()},
    ),
    ("jobs_leased", "Jobs that workers hold.", "", lambda stats: {"": stats.leased}),
    ("jobs_waiting", "Jobs that wait for a retry.", "", lambda stats: {"": stats.waiting}),
    (
        "batches",
        "Unfinished batches.",
        "status",
        lambda stats: {
            status: sum(batch.status is status for batch in stats.open_batches)
            for status in BatchStatus
            if not status.is_final
        },
    ),
    (
        "batch_lines",
        "Lines of the unfinished batches.",
        "state",
        lambda stats: {
            state: sum(getattr(batch, state) for batch in stats.open_batches)
            for state in ("total", "answered", "failed")
        },
    ),
    ("server_memory_bytes", "Memory that the queue's server uses.", "", lambda stats: {"": stats.server_bytes}),
)


class QueueCollector:
    """Collector that reads the queue at every scrape, and keeps nothing."""

    def __init__(self, queue: MiraQueue) -> None:
        self._queue = queue

    def describe(self) -> list[Metric]:
        """Skip the check for duplicate names, so that registering needs no server."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            stats = self._queue.ledger.queue_stats()
        except QueueUnavailable:
            stats = None
        up = _family("up", "1 if the queue's server responded. If it is 0, there are no other metrics.")
        up.add_metric((), stats is not None)
        yield up
        if stats is not None:
            yield from _families(stats)


def _families(stats: QueueStats) -> Iterator[Metric]:
    for name, text, value in OF_ACCOUNTS:
        family = _family(name, text, "account", "base")
        for view in stats.accounts:
            if (found := value(view)) is not None:
                family.add_metric((view.account, view.base), found)
        yield family
    for name, text, values in OF_BREAKERS:
        family = _family(name, text, "account", "base", "reason")
        for view in stats.accounts:
            for reason, found in zip(("limit", "faults"), values(view), strict=True):
                family.add_metric((view.account, view.base, reason), found)
        yield family
    for name, text, label, of_label in OF_QUEUE:
        family = _family(name, text, *filter(None, [label]))
        for key, found in of_label(stats).items():
            family.add_metric((key,) if label else (), found)
        yield family


def _family(name: str, text: str, *labels: str) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(f"mira_queue_{name}", text, labels=labels)


def metrics(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0 for any free one.")] = 9464,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and exit.")] = False,
) -> None:
    """Serve metrics of the queue to Prometheus.

    One such process is enough for a queue and all of its workers: it reads the metrics from the queue's server at every
    scrape. If the server is unavailable, mira_queue_up is 0. docs/metrics.md lists the metrics. They contain no keys
    and no prompts.
    """
    signal.signal(signal.SIGTERM, _exit)
    with MiraQueue() as queue:
        registry = CollectorRegistry()
        registry.register(QueueCollector(queue))
        if once:
            # Raises the same error as every other command if the server is unavailable.
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


def _exit(*_: object) -> None:
    raise typer.Exit
