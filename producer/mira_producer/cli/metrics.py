"""`mira-queue metrics`: numbers of the queue for Prometheus. docs/metrics.md lists them all."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mira_producer.cli import console
from mira_producer.client import MiraQueue
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.ledger.queue_stats import QueueStats

HELP_END = console.help_end(
    [
        ("mira-queue metrics", "serve the metrics at http://127.0.0.1:9464/metrics"),
        ("mira-queue metrics --once | grep breaker", "print the current metrics, and exit"),
        ("mira-queue metrics --host 0.0.0.0 --port 9100", "for a Prometheus on another machine; there is no password"),
    ],
    {
        0: "printed, or stopped by SIGTERM",
        1: "--once: the queue's server is unavailable",
        2: "wrong usage or setting, or the port is in use",
        130: "stopped by Ctrl-C",
    },
)

# Each metric with its help, by the names of its labels.
HELP: dict[tuple[str, ...], dict[str, str]] = {
    ("account", "base"): {
        "calls_in_flight": "Calls in flight.",
        "processes_waiting": "Worker processes that wait for a permit.",
        "rate_limit_calls": "Learned rate limit: calls per window.",
        "rate_limit_window_seconds": "Window of that limit.",
        "concurrency_limit_calls": "Learned concurrency limit: calls in flight.",
        "allowed_calls": "Calls per window that are allowed now.",
        "allowed_in_flight_calls": "Calls in flight that are allowed now.",
        "breaker_remaining_seconds": "Time until a probe may start.",
        "calls_sent_total": "Calls that started.",
        "calls_rate_limited_total": "Calls that got a 429.",
        "estimate_changes_total": "Changes of the learned limits.",
    },
    # The reason is "limit" (rate limits), or "faults" of the service.
    ("account", "base", "reason"): {
        "breaker_open": "1 from when the circuit breaker opens until a probe succeeds.",
        "breaker_openings_total": "Times the circuit breaker opened.",
    },
    ("account", "lane"): {
        "jobs_queued": "Jobs that no worker has taken yet.",
        "messages": "Messages in Celery's queues.",
    },
    ("account",): {
        "jobs_leased": "Jobs that workers hold.",
        "jobs_waiting": "Jobs that wait for a retry.",
        "workers": "Worker processes that serve the account.",
    },
    ("status",): {"batches": "Unfinished batches."},
    ("state",): {"batch_lines": "Lines of the unfinished batches."},
    (): {
        "up": "1 if the queue's server responded. If it is 0, there are no other metrics.",
        "server_memory_bytes": "Memory that the queue's server uses.",
    },
}


class QueueCollector:
    """Collector that reads the queue at every scrape, and keeps nothing."""

    def __init__(self, queue: MiraQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterable[Metric]:
        families = {name: _family(name, text, labels) for labels, helps in HELP.items() for name, text in helps.items()}
        try:
            samples = list(_samples(self._queue.ledger.queue_stats()))
        except QueueUnavailable:
            samples = []
        for name, labels, value in [("up", (), bool(samples)), *samples]:
            families[name].add_metric(labels, value)
        return families.values() if samples else [families["up"]]


def _samples(stats: QueueStats) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield each metric with the values of its labels, and its value."""
    for of_account in stats.accounts:
        view = of_account.pace
        for lane in Lane:
            yield "jobs_queued", (view.account, lane.name.lower()), of_account.queued[lane]
            yield "messages", (view.account, lane.name.lower()), of_account.messages[lane]
        yield "jobs_leased", (view.account,), of_account.leased
        yield "jobs_waiting", (view.account,), of_account.waiting
        yield "workers", (view.account,), of_account.workers
        account = (view.account, view.base)
        rate, in_flight = view.estimate.rate, view.estimate.in_flight
        yield "calls_in_flight", account, view.in_flight
        yield "processes_waiting", account, view.waiting
        # A limit that is not known is not 0.
        if rate:
            yield "rate_limit_calls", account, rate.max_calls
            yield "rate_limit_window_seconds", account, rate.retry_after_ms / 1000
            yield "allowed_calls", account, rate.allowed
        if in_flight:
            yield "concurrency_limit_calls", account, in_flight.max_calls
        yield "allowed_in_flight_calls", account, in_flight.allowed if in_flight else view.estimate.start
        yield "breaker_remaining_seconds", account, view.open_for.total_seconds()
        yield "calls_sent_total", account, view.counts.sent
        yield "calls_rate_limited_total", account, view.counts.rate_limited
        yield "estimate_changes_total", account, view.counts.estimate_changes
        for reason in ("limit", "faults"):
            yield "breaker_open", (*account, reason), view.breaker == reason
            yield "breaker_openings_total", (*account, reason), getattr(view.counts, f"openings_{reason}")
    for status in BatchStatus:
        if not status.is_final:
            yield "batches", (status,), sum(batch.status is status for batch in stats.open_batches)
    for state in ("total", "answered", "failed"):
        yield "batch_lines", (state,), sum(getattr(batch, state) for batch in stats.open_batches)
    yield "server_memory_bytes", (), stats.server_bytes


def _family(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily | GaugeMetricFamily:
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(console.EXIT_OK))
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
