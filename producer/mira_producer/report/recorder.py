"""What a report is drawn from: a run over time, in as much memory after a week as after a minute."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from mira_producer.engine.wait_reason import Kind, Reason
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.ledger.accounts import PaceView

# When a run has filled its buckets, neighbours merge, and each lasts twice as long.
MOST_BUCKETS = 600
FIRST_WIDTH_S = 0.25
# A latency is known to a twelfth of itself: eight steps from one to two.
STEPS = 8
MOST_SLOW = 20
MOST_SAMPLES = 40
LONGEST_ID, LONGEST_DETAIL = 200, 300  # characters


@dataclass(slots=True)
class Bucket:
    """What happened in one stretch of time.

    `waited_s` is how long each kind of wait was the reason for nothing, or nothing more, to leave; `flying` the most
    calls in flight that were seen, None where nobody looked. Limits are those believed last: calls in flight, and
    calls a second.
    """

    answers: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    refusals: int = 0
    waited_s: dict[Kind, float] = field(default_factory=dict)
    flying: int | None = None
    flight_limit: int | None = None
    rate_limit: float | None = None

    def merge(self, later: Bucket) -> Bucket:
        """One bucket of this one and the next."""
        seen = [number for number in (self.flying, later.flying) if number is not None]
        return Bucket(
            self.answers + later.answers,
            self.failed + later.failed,
            self.prompt_tokens + later.prompt_tokens,
            self.completion_tokens + later.completion_tokens,
            self.cost + later.cost,
            self.refusals + later.refusals,
            summed([self.waited_s, later.waited_s]),
            max(seen) if seen else None,
            self.flight_limit if later.flight_limit is None else later.flight_limit,
            self.rate_limit if later.rate_limit is None else later.rate_limit,
        )


class Timeline:
    """Buckets of equal width, from the beginning on."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self.width_s = FIRST_WIDTH_S
        self.buckets: list[Bucket] = []

    def at(self, now_s: float) -> Bucket:
        return self._bucket(self._index(now_s))

    def spread(self, kind: Kind, from_s: float, to_s: float) -> None:
        """Note that `kind` was the reason to wait, all that time."""
        last = self._index(to_s)
        for index in range(self._index(from_s), last + 1):
            begin_s = self._began_s + index * self.width_s
            part_s = min(to_s, begin_s + self.width_s) - max(from_s, begin_s)
            if part_s > 0:
                waited_s = self._bucket(index).waited_s
                waited_s[kind] = waited_s.get(kind, 0.0) + part_s

    def _index(self, now_s: float) -> int:
        since_s = max(0.0, now_s - self._began_s)
        while since_s >= self.width_s * MOST_BUCKETS:
            self._halve()
        return int(since_s / self.width_s)

    def _bucket(self, index: int) -> Bucket:
        while len(self.buckets) <= index:
            self.buckets.append(Bucket())
        return self.buckets[index]

    def _halve(self) -> None:
        self.buckets = list(merged(self.buckets, 2))
        self.width_s *= 2


def merged(buckets: list[Bucket], number: int) -> Iterator[Bucket]:
    """Each `number` neighbours as one."""
    for at in range(0, len(buckets), number):
        sum_of = buckets[at]
        for later in buckets[at + 1 : at + number]:
            sum_of = sum_of.merge(later)
        yield sum_of


def summed(parts: Iterable[dict[Kind, float]]) -> dict[Kind, float]:
    """Seconds of each kind, added up."""
    total: dict[Kind, float] = {}
    for part in parts:
        for kind, seconds in part.items():
            total[kind] = total.get(kind, 0.0) + seconds
    return total


class Latencies:
    """How long calls took, in classes that grow as the latencies do."""

    def __init__(self) -> None:
        self.classes: Counter[int] = Counter()
        self.count = 0
        self.most_ms = 0

    def add(self, latency_ms: int) -> None:
        # Whatever a clock or another version says: a class for a day at most.
        latency_ms = min(max(latency_ms, 1), 86_400_000)
        self.classes[int(math.log2(latency_ms) * STEPS)] += 1
        self.count += 1
        self.most_ms = max(self.most_ms, latency_ms)

    def quantile(self, share: float) -> float:
        """In ms, 0 when nothing was added. Within a class, latencies count as evenly spread."""
        rank = share * self.count
        for index in sorted(self.classes):
            number = self.classes[index]
            if rank <= number:
                return min(lower_ms(index + rank / number), float(self.most_ms))
            rank -= number
        return float(self.most_ms)


def lower_ms(index: float) -> float:
    """Where a class of latencies begins."""
    return float(2 ** (index / STEPS))


@dataclass(frozen=True, slots=True, order=True)
class Slow:
    """A line and the time of the call that answered it."""

    latency_ms: int
    custom_id: str


class Recorder:
    """Takes in a run as it goes on. `clock` is monotonic, in seconds.

    Refusals are those that the account's record tells of: seen twice a second, a few can be missed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began_s = clock()
        self.ended_s: float | None = None
        self.timeline = Timeline(self.began_s)
        self.latencies = Latencies()
        self.slowest: list[Slow] = []
        #: By code, the first line that met it, and the server's words.
        self.samples: dict[str, tuple[str, str]] = {}
        #: Calls that met a fault and were made again.
        self.repeats = 0
        self._kind: Kind = ""
        self._looked_s = self.began_s
        self._event: tuple[int, int] | None = None

    def ended(
        self,
        custom_id: str,
        outcome: Outcome,
        *,
        code: str,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        cost: Decimal | None = None,
        billed: bool = True,
    ) -> None:
        """A line has ended; the numbers are those that the stats count."""
        bucket = self.timeline.at(self._clock())
        if billed:
            self.repeats += max(0, outcome.attempts - 1)
        match outcome:
            case Completion():
                bucket.answers += 1
                bucket.prompt_tokens += prompt_tokens
                bucket.completion_tokens += completion_tokens
                bucket.cost += cost or 0
                if billed and outcome.latency_ms > 0:
                    self._add_latency(custom_id, outcome.latency_ms)
            case Failure():
                bucket.failed += 1
                if code not in self.samples and len(self.samples) < MOST_SAMPLES:
                    self.samples[code] = (custom_id[:LONGEST_ID], outcome.detail[:LONGEST_DETAIL])

    def looked(self, view: PaceView, reason: Reason) -> None:
        """The account as it was found, and what was waited for."""
        bucket = self.waits(reason.kind)
        bucket.flying = max(view.in_flight, bucket.flying or 0)
        estimate = view.estimate
        if estimate.in_flight:
            bucket.flight_limit = estimate.in_flight.max_calls
        if estimate.rate:
            bucket.rate_limit = estimate.rate.max_calls * 1000 / max(1, estimate.rate.retry_after_ms)
        # What the first look finds may be of yesterday, and is none of this run's.
        if self._event is not None:
            when_ms, refused = self._event
            bucket.refusals += max(0, estimate.event_rate_limited - (refused if estimate.event_ms == when_ms else 0))
        self._event = (estimate.event_ms, estimate.event_rate_limited)

    def waits(self, kind: Kind) -> Bucket:
        """From now on, `kind` is the reason to wait. Returns the stretch of time that is now."""
        now_s = self._clock()
        # What was found the last time is taken to have held until now.
        if self._kind:
            self.timeline.spread(self._kind, self._looked_s, now_s)
        self._kind, self._looked_s = kind, now_s
        return self.timeline.at(now_s)

    def look(self) -> None:
        """Nothing has changed: whoever reads the timeline now finds it complete."""
        self.waits(self._kind)

    def end(self) -> None:
        """The run is over: time that passes now is not its own."""
        if self.ended_s is None:
            self.ended_s = self._clock()
            if self._kind:
                self.timeline.spread(self._kind, self._looked_s, self.ended_s)

    @property
    def seconds(self) -> float:
        return (self._clock() if self.ended_s is None else self.ended_s) - self.began_s

    def waited(self) -> dict[Kind, float]:
        """Seconds in all, by kind."""
        return summed(bucket.waited_s for bucket in self.timeline.buckets)

    def refusals(self) -> int:
        return sum(bucket.refusals for bucket in self.timeline.buckets)

    def _add_latency(self, custom_id: str, latency_ms: int) -> None:
        self.latencies.add(latency_ms)
        slow = Slow(latency_ms, custom_id[:LONGEST_ID])
        if len(self.slowest) < MOST_SLOW:
            heapq.heappush(self.slowest, slow)
        elif slow > self.slowest[0]:
            heapq.heapreplace(self.slowest, slow)
