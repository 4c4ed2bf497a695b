"""Values about an account's pace: configured limits, learned limits, permits, and what calls have shown.

The worker's policy decides. All times are the queue server's, in milliseconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

import orjson

from mira_queue.contract.known_fields import known_fields
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
    """Ceilings from the settings, in the order of acquire's arguments. Zero means "not configured"."""

    rate: int = 0  # calls
    window_ms: int = 0
    in_flight: int = 0
    tokens: int = 0
    tokens_window_ms: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """One learned limit of an account."""

    max_calls: int  # in the window, or in flight
    retry_after_ms: int  # the Retry-After of its 429s, which identifies it; for the rate limit also its window
    since_ms: int
    confirmations: int = 1  # 429s at exactly this number
    probe_at_ms: int = 0  # when to probe for more
    interval_ms: int = 0  # from one probe for more to the next
    step: int = 0  # extra calls that the current probe allows; 0: no probe is in progress
    contradictions: int = 0  # consecutive 429s at a slightly lower number
    seen_with: int = 0  # of a concurrency limit: calls in the window at its first 429; of a rate limit: in flight

    @property
    def allowed(self) -> int:
        return self.max_calls + self.step


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of an account's limits, learned from its calls."""

    rate: Limit | None = None
    in_flight: Limit | None = None
    start: int = 2  # calls allowed in flight while no concurrency limit is known
    max_accepted: int = 0  # most calls in flight of which the last was accepted
    call_ms: int = 0  # how long calls took at the last 429
    margin_ms: int = 0  # added to the window for clock drift and network delay
    event_ms: int = 0  # when the last event's first 429 was processed; calls sent before belong to the same event
    event_in_window: int = 0  # calls in the window at that time, rate-limited ones included
    event_in_flight: int = 0  # calls in flight at that time, rate-limited ones included
    event_rate_limited: int = 0  # how many of them were rate-limited
    unrelated: tuple[int, ...] = ()  # Retry-Afters that belong to neither limit: honored, not learned from
    unrelated_ms: int = 0  # when the last of them was added; they expire

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the estimate in `text`; an empty text is the estimate of an unknown account."""
        if not text:
            return cls()
        found: dict[str, Any] = orjson.loads(text)
        found |= {name: Limit(**known_fields(Limit, found[name])) for name in ("rate", "in_flight") if found[name]}
        return cls(**known_fields(cls, found) | {"unrelated": tuple(found["unrelated"])})


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
    """One 429 with what the account's record says about it. `in_window` and `in_flight` include the call itself."""

    now_ms: int
    sent_ms: int
    retry_after_ms: int
    in_window: int
    in_flight: int
    peak_in_flight: int
    call_ms: int = 0  # how long calls take


@dataclass(frozen=True, slots=True)
class FaultStreak:
    """A fault together with the consecutive faults of other jobs (see pace/record_fault.lua).

    `lasted_ms` is the time since faults first opened the circuit breaker after the last response: 0 if they have not.
    `is_old` is True if the call started before the breaker last opened.
    """

    jobs: int
    in_flight: int
    lasted_ms: int
    was_probe: bool
    is_old: bool
    closed_breaker: bool = False
