"""Record of a run over time, from which the report is drawn. Its memory does not grow with the run."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from mira_producer.cost.usage import Usage
from mira_queue.contract.batch import Kind, Reason
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.ledger.accounts import PaceView

# When all buckets are in use, neighbors are merged, and each bucket covers twice the time.
MAX_BUCKETS = 600
FIRST_WIDTH_S = 0.25
# Latency classes per doubling: each latency is known to within a twelfth of itself.
STEPS = 8
MAX_SLOW = 20
MAX_SAMPLES, MAX_EXAMPLES = 40, 3
MAX_ID_CHARS, MAX_DETAIL_CHARS = 200, 300


@dataclass(slots=True)
class Bucket:
    """Events of one time span.

    `waited_s` is the time in which no further call could start, by reason. `in_flight` is the highest sample of the
    calls in flight, or None if there was no sample. The limits are the last learned ones: calls in flight, and calls
    per second.
    """

    answers: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    rate_limited: int = 0
    waited_s: dict[Kind, float] = field(default_factory=dict)
    in_flight: int | None = None
    in_flight_limit: int | None = None
    rate_limit: float | None = None

    def merge(self, later: Bucket) -> Bucket:
        """Return one bucket for this time span and the next."""
        samples = [number for number in (self.in_flight, later.in_flight) if number is not None]
        return Bucket(
            self.answers + later.answers,
            self.failed + later.failed,
            self.usage + later.usage,
            self.rate_limited + later.rate_limited,
            summed([self.waited_s, later.waited_s]),
            max(samples, default=None),
            self.in_flight_limit if later.in_flight_limit is None else later.in_flight_limit,
            self.rate_limit if later.rate_limit is None else later.rate_limit,
        )


@dataclass(slots=True)
class Timeline:
    """Buckets of equal width, from the start. Times are seconds since the start."""

    width_s: float = FIRST_WIDTH_S
    buckets: list[Bucket] = field(default_factory=list)

    def at(self, time_s: float) -> Bucket:
        while time_s >= self.width_s * MAX_BUCKETS:
            self.buckets = list(merged(self.buckets, 2))
            self.width_s *= 2
        while len(self.buckets) <= time_s // self.width_s:
            self.buckets.append(Bucket())
        return self.buckets[int(time_s // self.width_s)]

    def spread(self, kind: Kind, from_s: float, to_s: float) -> None:
        """Record that `kind` was the reason for a wait in this time."""
        self.at(to_s)
        for index in range(int(from_s // self.width_s), len(self.buckets)):
            begin_s = index * self.width_s
            part_s = min(to_s, begin_s + self.width_s) - max(from_s, begin_s)
            if part_s > 0:
                self.buckets[index].waited_s = summed([self.buckets[index].waited_s, {kind: part_s}])


def merged(buckets: list[Bucket], number: int) -> Iterator[Bucket]:
    """Merge each `number` neighbors into one."""
    for at in range(0, len(buckets), number):
        sum_of = buckets[at]
        for later in buckets[at + 1 : at + number]:
            sum_of = sum_of.merge(later)
        yield sum_of


def summed(parts: Iterable[dict[Kind, float]]) -> dict[Kind, float]:
    """Return the total seconds of each kind."""
    total: dict[Kind, float] = {}
    for part in parts:
        for kind, seconds in part.items():
            total[kind] = total.get(kind, 0.0) + seconds
    return total


@dataclass(slots=True)
class Latencies:
    """Histogram of latencies. The width of a class grows with the latency."""

    classes: Counter[int] = field(default_factory=Counter)
    max_ms: int = 0

    @property
    def count(self) -> int:
        return self.classes.total()

    def add(self, latency_ms: int) -> None:
        # A wrong clock or another version of the worker may report anything. A day is the highest class.
        latency_ms = min(max(latency_ms, 1), 86_400_000)
        self.classes[int(math.log2(latency_ms) * STEPS)] += 1
        self.max_ms = max(self.max_ms, latency_ms)

    def quantile(self, share: float) -> float:
        """Return ms, or 0 without latencies. Latencies within a class count as evenly spread."""
        rank = share * self.count
        for index in sorted(self.classes):
            number = self.classes[index]
            if rank <= number:
                return min(lower_ms(index + rank / number), float(self.max_ms))
            rank -= number
        return float(self.max_ms)


def lower_ms(index: float) -> float:
    """Return the lower bound of a class."""
    return float(2 ** (index / STEPS))


class Slow(NamedTuple):
    """A line, the latency of the call that answered it, and the beginning of the answer."""

    latency_ms: int
    custom_id: str
    number: int = 0
    answer: str = ""


class Example(NamedTuple):
    """A line that has failed, and the beginning of the message."""

    custom_id: str
    number: int
    detail: str


@dataclass(slots=True)
class Record:
    """Record of a run. `samples` has, for each code, the first lines that got it."""

    timeline: Timeline = field(default_factory=Timeline)
    latencies: Latencies = field(default_factory=Latencies)
    slowest: list[Slow] = field(default_factory=list)
    samples: dict[str, list[Example]] = field(default_factory=dict)
    repeats: int = 0  # calls that were retried after a fault


class Recorder(Record):
    """Recorder of a run in progress. `clock` is monotonic, in seconds; `earlier_s` is how long ago the run began.

    Rate-limited calls are counted from samples of the account, so a few can be missed.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, record: Record | None = None, earlier_s: float = 0.0
    ) -> None:
        record = record or Record()
        super().__init__(*(getattr(record, each.name) for each in fields(Record)))
        self._clock = clock
        self._began_s = clock() - earlier_s
        self._ended_s: float | None = None
        self.kind: Kind = ""
        self._checked_s = self.seconds
        self._event: tuple[int, int] | None = None

    def ended(
        self,
        custom_id: str,
        outcome: Outcome,
        *,
        code: str,
        usage: Usage | None = None,
        billed: bool = True,
        number: int = 0,
    ) -> None:
        """Record a finished line, with the numbers that the stats count. `number` is that of the line in the input."""
        bucket = self.timeline.at(self.seconds)
        if billed:
            self.repeats += max(0, outcome.attempts - 1)
        match outcome:
            case Completion():
                bucket.answers += 1
                bucket.usage += usage or Usage()
                if billed and outcome.latency_ms > 0:
                    self._add_latency(custom_id, number, outcome)
            case Failure():
                bucket.failed += 1
                examples = self.samples.get(code, [])
                if len(self.samples) < MAX_SAMPLES:
                    self.samples[code] = examples
                if len(examples) < MAX_EXAMPLES:
                    examples.append(Example(custom_id[:MAX_ID_CHARS], number, beginning(outcome.detail)))

    def sampled(self, view: PaceView, reason: Reason) -> None:
        """Record a sample of the account, and the reason for a wait."""
        bucket = self.waits(reason.kind)
        bucket.in_flight = max(view.in_flight, bucket.in_flight or 0)
        estimate = view.estimate
        if estimate.in_flight:
            bucket.in_flight_limit = estimate.in_flight.max_calls
        if estimate.rate:
            bucket.rate_limit = estimate.rate.max_calls * 1000 / max(1, estimate.rate.retry_after_ms)
        # An event in the first sample may have happened before this run.
        if self._event is not None:
            when_ms, before = self._event
            bucket.rate_limited += max(0, estimate.event_rate_limited - (before if estimate.event_ms == when_ms else 0))
        self._event = (estimate.event_ms, estimate.event_rate_limited)

    def waits(self, kind: Kind) -> Bucket:
        """Set the reason for waits from now on. Returns the current bucket."""
        now_s = self.seconds
        # The last reason counts until now.
        if self.kind:
            self.timeline.spread(self.kind, self._checked_s, now_s)
        self.kind, self._checked_s = kind, now_s
        return self.timeline.at(now_s)

    def end(self) -> None:
        """Stop the clock."""
        if self._ended_s is None:
            self.waits(self.kind)
            self._ended_s = self._checked_s

    @property
    def seconds(self) -> float:
        """The time since the start."""
        return self._clock() - self._began_s if self._ended_s is None else self._ended_s

    def waited(self) -> dict[Kind, float]:
        """Return the total seconds of each kind."""
        return summed(bucket.waited_s for bucket in self.timeline.buckets)

    def rate_limited(self) -> int:
        return sum(bucket.rate_limited for bucket in self.timeline.buckets)

    def _add_latency(self, custom_id: str, number: int, answer: Completion) -> None:
        self.latencies.add(answer.latency_ms)
        push = heapq.heappush if len(self.slowest) < MAX_SLOW else heapq.heappushpop
        push(self.slowest, Slow(answer.latency_ms, custom_id[:MAX_ID_CHARS], number, beginning(answer.text)))


def beginning(text: str) -> str:
    """Return as much of a text as a page quotes."""
    return text if len(text) <= MAX_DETAIL_CHARS else f"{text[: MAX_DETAIL_CHARS - 1]}…"
