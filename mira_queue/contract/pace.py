"""Values about an account's pace: configured limits, learned limits, permits, and what calls have shown.

The worker's policy decides. All times are the queue server's, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Self

import orjson

from mira_queue.contract.call_times import CallTimes
from mira_queue.contract.known_fields import all_fields, stored_fields
from mira_queue.contract.outcome import Failure

# "lost": another worker has the job. "held": its batch must not start. "expired": its deadline has passed. "rejected":
# the account would reject the call.
Verdict = Literal["go", "probe", "wait", "lost", "held", "expired", "rejected"]
# Why a call waits: an open circuit breaker, another call's probe, a learned limit ("in_flight", "rate"), a configured
# one ("configured", "tokens"), a response header, the gap between an account's first calls, another process's turn, a
# call that checks whether the account is still rejected.
Reason = Literal[
    "", "breaker", "probe", "in_flight", "rate", "configured", "tokens", "header", "spacing", "turn", "rejected"
]


class ConfiguredLimits(NamedTuple):
    """Limits from the settings: ceilings, in the order of acquire's arguments, and expected ones. Zero means "none".

    The expected limits are the first estimate of an account of which nothing is known.
    """

    rate: int = 0  # calls
    window_ms: int = 0
    in_flight: int = 0
    tokens: int = 0
    tokens_window_ms: int = 0
    expected_rate: int = 0
    expected_window_ms: int = 0
    expected_in_flight: int = 0

    @property
    def ceilings(self) -> tuple[int, ...]:
        return self[:5]


@dataclass(frozen=True, slots=True)
class StatedWait:
    """Wait that a 429 or a 503 asks for.

    If the response states none, `is_stated` is False, and `wait` is a default. `remark` is for the log if the
    statement was unusual.
    """

    wait: timedelta
    is_stated: bool = True
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """Calls that remain according to the rate-limit headers of a response, for the time `reset`.

    `limit` is the number of calls per window, if the response states it. It is information for the user.
    """

    remaining: int
    reset: timedelta
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One learned limit of an account."""

    max_calls: int  # in the window, or in flight
    retry_after_ms: int  # the Retry-After of its 429s, which identifies it; for the rate limit also its window
    since_ms: int
    confirmations: int = 1  # 429s at exactly this number; 0: an expected limit, or one that a probe has found
    probe_at_ms: int = 0  # when to probe for more
    interval_ms: int = 0  # from one probe for more to the next
    step: int = 0  # extra calls that the current probe allows; 0: no probe is in progress
    contradictions: int = 0  # consecutive 429s at a slightly lower number
    seen_with: int = 0  # of a concurrency limit: calls in the window at its first 429; of a rate limit: in flight
    base_calls: int = 0  # of a measured limit: max_calls at its last 429; probes for more have raised it since
    measured_ms: int = 0  # window of a rate limit whose Retry-After is not its window; 0: the Retry-After is
    #: Fields of a newer version, which are written again.
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def allowed(self) -> int:
        return self.max_calls + self.step

    @property
    def window_ms(self) -> int:
        return self.measured_ms or self.retry_after_ms


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of an account's limits, learned from its calls."""

    rate: Limit | None = None
    in_flight: Limit | None = None
    start: int = 2  # calls allowed in flight while no concurrency limit is known
    max_accepted: int = 0  # most calls in flight of which the last was accepted
    changed_ms: int = 0  # when a 429 showed that what was accepted before no longer is
    call_ms: int = 0  # how long calls took at the last 429
    margin_ms: int = 0  # added to the window for clock drift and network delay
    event_ms: int = 0  # when the last event's first 429 was processed; calls sent before belong to the same event
    event_in_window: int = 0  # calls in the window at that time, rate-limited ones included
    event_in_flight: int = 0  # calls in flight at that time, rate-limited ones included
    event_rate_limited: int = 0  # how many of them were rate-limited
    event_accepted: int = 0  # calls that had been accepted by then
    blocked_ms: int = 0  # when the first of the events was processed since which no call was accepted
    blocked_repeats: int = 0  # how many of them followed the first one
    blocked_for_ms: int = 0  # how long that lasted the last time
    wait_ms: int = 0  # from the last event to the next probe
    unrelated: tuple[int, ...] = ()  # Retry-Afters that belong to neither limit: honored, not learned from
    unrelated_ms: int = 0  # when the last of them was added; they expire
    reset_ms: int = 0  # end of the Retry-After of the last event of the rate
    reset_accepted: int = 0  # calls that had been accepted by then
    uncounted: int = 0  # rate-limited calls on record that the API does not count
    uncounted_until_ms: int = 0  # when they leave the window
    #: Fields of a newer version, which are written again.
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_json(self) -> bytes:
        return orjson.dumps(stored_fields(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the estimate in `text`; an empty text is the estimate of an unknown account."""
        if not text:
            return cls()
        found: dict[str, Any] = orjson.loads(text)
        found |= {name: Limit(**all_fields(Limit, found[name])) for name in ("rate", "in_flight") if found[name]}
        return cls(**all_fields(cls, found) | {"unrelated": tuple(found["unrelated"])})


@dataclass(frozen=True, slots=True)
class LimitChange:
    """Learned limits of an account from a time on: calls per window, and calls in flight. 0 means "not known"."""

    at_ms: int
    rate: int
    window_ms: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Permit:
    """Verdict on one call. If the call may start, the numbers say what it started alongside (see pace/acquire.lua).

    `error` is the error of a rejected account.
    """

    verdict: Verdict
    in_window: int = 0
    in_flight: int = 0
    at_ms: int = 0
    error: Failure | None = None

    @property
    def may_start(self) -> bool:
        return self.verdict in ("go", "probe")


@dataclass(frozen=True, slots=True)
class ReleasedPermit:
    """Permit of a finished call that was not rate-limited.

    `remaining` is the number of calls that a response header left; it holds for `remaining_ms`.
    """

    member: str
    permit: Permit
    tokens: int = 0
    remaining: int | None = None
    remaining_ms: int = 0
    times: CallTimes | None = None


@dataclass(frozen=True, slots=True)
class PaceState:
    """State of an account when permits were requested; `reason` and `wait_ms` are set if a call has to wait.

    Three numbers count since the estimate was stored: accepted calls that took the last slot (`at_ceiling`), most calls
    that were certainly in flight together (`peak_in_flight`), and most calls in the window before an accepted one
    (`peak_sent`). `quiet_ms` is the time since the last call, `rate_bound_ms` the time since a call last waited for the
    rate limit. `version` is the version of the estimate.
    """

    now_ms: int
    reason: Reason
    wait_ms: int
    at_ceiling: int
    peak_in_flight: int
    peak_sent: int
    quiet_ms: int
    rate_bound_ms: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class RateLimitHit:
    """One 429 with what the account's record says about it. `in_window` and `in_flight` include the call itself.

    `peak_window` is the most calls in an earlier window as long as its Retry-After. `in_known_window` is the number of
    calls in the window of the learned rate limit. `accepted` counts the account's calls that are not known to be
    rate-limited. `first_ms` is when the account's first call was sent, or 0 if it is too long ago to be on record.
    """

    now_ms: int
    sent_ms: int
    retry_after_ms: int
    in_window: int
    in_flight: int
    peak_in_flight: int
    call_ms: int = 0  # how long calls take
    peak_window: int = 0
    in_known_window: int = 0
    accepted: int = 0
    first_ms: int = 0


@dataclass(frozen=True, slots=True)
class FaultStreak:
    """A fault together with the faults of other jobs (see pace/record_fault.lua).

    `jobs` counts jobs that are not sick, with a fault after which no call started that the service has answered. A job
    is sick if it had a fault of its own (`is_own`). `lasted_ms` is the time since faults first opened the circuit
    breaker after the last response: 0 if they have not. `is_old` is True if the call started before the breaker last
    opened. `is_own` is True if the service has answered a call that started after the job's earlier fault.
    """

    jobs: int
    in_flight: int
    lasted_ms: int
    was_probe: bool
    is_old: bool
    closed_breaker: bool = False
    is_own: bool = False
