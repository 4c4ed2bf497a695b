"""Metrics of the queue for Prometheus. docs/metrics.md lists them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mira_producer.cost.prices import Prices
from mira_producer.metrics.workers_wanted import demand_of, workers_wanted
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.call_times import Histogram
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.queue_stats import QueueStats

# Name of a metric, values of its labels, and its value.
Sample = tuple[str, tuple[str, ...], float]

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
        "oldest_queued_job_seconds": "Time that the oldest job has waited for a worker.",
        "usable_calls": "Calls that could be in flight for the jobs, within the learned limits.",
        "workers": "Worker processes that serve the account.",
    },
    # The outcome is "succeeded", "failed" or "cancelled"; the kind "job" or "line".
    ("account", "kind", "outcome", "code"): {"jobs_ended_total": "Jobs that ended."},
    ("account", "model", "direction"): {"tokens_total": "Tokens of prompts and of answers."},
    ("account", "model", "currency"): {"cost_total": "Cost of these tokens, by the price table."},
    ("status",): {"batches": "Unfinished batches."},
    ("state",): {"batch_lines": "Lines of the unfinished batches."},
    (): {
        "up": "1 if the queue's server responded. If it is 0, there are no other metrics.",
        "batches_paused": "Unfinished batches that are paused.",
        "live_workers": "Worker processes that are alive.",
        "workers_wanted": "Workers that the jobs could use, within the learned limits.",
        "server_memory_bytes": "Memory that the queue's server uses.",
    },
}
# Histograms of accounts.
HISTOGRAMS = {
    "call_duration_seconds": "Durations of calls that were not rate-limited.",
    "permit_wait_seconds": "Waits of jobs for the permits of their calls.",
}


class QueueCollector:
    """Collector that reads the queue at every scrape, and keeps nothing."""

    def __init__(self, ledger: Ledger, slots: int, prices: Callable[[], Prices]) -> None:
        self._ledger = ledger
        self._slots = slots
        self._prices = prices

    def collect(self) -> Iterable[Metric]:
        families = {name: _family(name, text, labels) for labels, helps in HELP.items() for name, text in helps.items()}
        try:
            stats = self._ledger.queue_stats()
        except QueueUnavailable:
            families["up"].add_metric((), 0)
            return [families["up"]]
        samples = chain(
            _samples(stats), _samples_of_demand(stats, self._slots), _samples_of_ends(stats, self._prices())
        )
        for name, labels, value in [("up", (), 1), *samples]:
            families[name].add_metric(labels, value)
        return [*families.values(), *_histograms(stats)]


def _samples(stats: QueueStats) -> Iterator[Sample]:
    """Yield each metric with the values of its labels, and its value."""
    for of_account in stats.accounts:
        view = of_account.pace
        for lane in Lane:
            yield "jobs_queued", (view.account, lane.name.lower()), of_account.queued[lane]
            yield "messages", (view.account, lane.name.lower()), of_account.messages[lane]
        yield "jobs_leased", (view.account,), of_account.leased
        yield "jobs_waiting", (view.account,), of_account.waiting
        yield "workers", (view.account,), view.workers
        yield "oldest_queued_job_seconds", (view.account,), of_account.oldest_queued.total_seconds()
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
    yield "batches_paused", (), sum(bool(batch.paused) for batch in stats.open_batches)
    yield "live_workers", (), stats.workers
    yield "server_memory_bytes", (), stats.server_bytes


def _samples_of_demand(stats: QueueStats, slots: int) -> Iterator[Sample]:
    demands = [demand_of(each, slots) for each in stats.accounts]
    for each in demands:
        yield "usable_calls", (each.account,), each.calls
    yield "workers_wanted", (), workers_wanted(demands, slots)


def _samples_of_ends(stats: QueueStats, prices: Prices) -> Iterator[Sample]:
    for activity in stats.activities:
        for (kind, code), count in activity.totals.items():
            outcome = code if code == JobState.CANCELLED else JobState.FAILED if code else JobState.SUCCEEDED
            yield (
                "jobs_ended_total",
                (activity.account, kind, outcome, code if outcome == JobState.FAILED else ""),
                count,
            )
        for model, tokens in activity.tokens.items():
            yield "tokens_total", (activity.account, model, "prompt"), tokens.prompt
            yield "tokens_total", (activity.account, model, "completion"), tokens.completion
            cost = prices.cost(model, tokens.prompt, tokens.completion)
            if cost is not None:
                yield "cost_total", (activity.account, model, prices.currency), float(cost)


def _histograms(stats: QueueStats) -> Iterator[HistogramMetricFamily]:
    for (name, text), field in zip(HISTOGRAMS.items(), ("durations", "waits"), strict=True):
        family = HistogramMetricFamily(f"mira_queue_{name}", text, labels=["account"])
        for activity in stats.activities:
            found: Histogram = getattr(activity, field)
            ends = [*(f"{end:g}" for end in found.ends_s), "+Inf"]
            family.add_metric([activity.account], list(zip(ends, accumulate(found.counts), strict=True)), found.sum_s)
        yield family


def _family(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(f"mira_queue_{name}", text, labels=labels)


def registry_of(ledger: Ledger, slots: int, prices: Callable[[], Prices]) -> CollectorRegistry:
    """Return a registry with the metrics of this queue, and with nothing of this process."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(ledger, slots, prices))
    return registry
