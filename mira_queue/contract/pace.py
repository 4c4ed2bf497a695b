"""What is believed of an account's limits, and what a user has told of them. Values; the policy is the worker's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class ConfiguredLimits:
    """Ceilings from the settings. 0: not told."""

    rate: int = 0  # calls
    window_ms: int = 0
    in_flight: int = 0
    tokens: int = 0
    tokens_window_ms: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """One learned limit of an account."""

    most: int  # calls: in the window, or in flight
    retry_after_ms: int  # what its refusals say, which tells them from others; for the rate it is the window
    since_ms: int
    confirmations: int = 1  # refusals that came at just this number
    probe_at_ms: int = 0  # when to look whether there is more by now
    interval_ms: int = 0  # from one look to the next
    step: int = 0  # how many more are let through, to see whether they are accepted; 0: no look is under way
    contradictions: int = 0  # refusals in a row at a number a little lower
    seen_with: int = 0  # of a limit in flight: calls in the window when it was guessed, should it have been the rate

    @property
    def allowed(self) -> int:
        return self.most + self.step


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the calls of an account have taught. Times are the server's, in ms."""

    rate: Limit | None = None
    in_flight: Limit | None = None
    start: int = 2  # calls in flight that are let through while no limit on them is known
    max_accepted: int = 0  # most calls in flight of which the last was accepted
    call_ms: int = 0  # how long calls took when one was last refused
    margin_ms: int = 0  # added to the window: both clocks, and the way there
    event_ms: int = 0  # when the last event's first refusal was taken in; what left before is part of it
    event_in_window: int = 0  # calls in the window then, refused ones included
    event_in_flight: int = 0  # calls in flight then, likewise
    event_rate_limited: int = 0  # how many of them were refused
    unrelated: tuple[int, ...] = ()  # Retry-Afters that belong to neither limit: obeyed, not learned from
    unrelated_ms: int = 0  # when the last of them was added; they are not held for ever

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Empty: nothing is believed yet."""
        if not text:
            return cls()
        found: dict[str, Any] = orjson.loads(text)
        limits = {name: Limit(**found[name]) if found[name] else None for name in ("rate", "in_flight")}
        return replace(cls(**{**found, **limits}), unrelated=tuple(found["others"]))
