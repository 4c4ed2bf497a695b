"""Scenarios: accounts with limits (scaled so that a window is 6 s), and the targets of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WINDOW_S = 6.0
# Mira's 5 s, scaled like its window.
FLIGHT_RETRY_AFTER_S = 0.5
OUTAGE_S = 5.0
RATE = 60

Measure = Literal["rate", "slots", "calls"]


@dataclass(frozen=True, slots=True)
class Change:
    """Change of the API `at_s` seconds after the first call: new limits or an outage."""

    at_s: float
    config: Mapping[str, Any] = field(default_factory=dict)
    outage: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One account. `api` is the simulator's configuration; `slots` is MIRA_CONCURRENCY of each of `processes`.

    `bound` is the limit that determines the best possible result. `targets` are by figure: see figures.py.

    With `calls`, the run ends when that many are answered. `ideal_s` is the time that they need at the limit (None: it
    is computed from the limiter). `lines` is the size of a file for `mira-queue run`, instead of jobs for a worker.
    """

    name: str
    title: str
    seconds: float
    bound: Measure
    api: Mapping[str, Any]
    targets: Mapping[str, float]
    slots: int = 20
    processes: int = 1
    changes: tuple[Change, ...] = ()
    configured: Mapping[str, Any] = field(default_factory=dict)
    calls: int | None = None
    ideal_s: float | None = None
    max_tokens: int | None = None
    lines: int | None = None
    # Concurrency of the peer that must be configured; None: no peers in this scenario.
    peers_concurrency: int | None = None

    @property
    def window_s(self) -> float:
        return float(self.api.get("rate_window_s", WINDOW_S))


def _rate(most: int = RATE) -> dict[str, Any]:
    return {"rate": most, "rate_window_s": WINDOW_S}


def _in_flight(most: int) -> dict[str, Any]:
    return {"concurrency": most, "concurrency_retry_after_s": FLIGHT_RETRY_AFTER_S}


BOTH = {**_rate(), **_in_flight(3), "latency_s": 0.1}

SCENARIOS = (
    Scenario(
        "rate", "60 in 6 s, 50 in flight", 120, "rate",
        {**_rate(), **_in_flight(50), "latency_s": 0.1},
        {"steady": 0.98, "overall": 0.95, "rate_limited": 0.005, "early": 0},
        slots=50, peers_concurrency=50,
    ),
    Scenario(
        "in-flight", "3 in flight, 0.2 s a call", 180, "slots",
        {**_in_flight(3), "latency_s": 0.2},
        {"steady": 0.97, "overall": 0.95, "rate_limited": 0.005, "early": 0},
        peers_concurrency=3,
    ),
    Scenario(
        "both", "60 in 6 s, 3 in flight, 0.1 s", 120, "rate", BOTH,
        {"steady": 0.97, "overall": 0.92, "rate_limited": 0.007, "early": 0},
        peers_concurrency=3,
    ),
    Scenario(
        "fair", "the same, 2 processes, 20 slots each", 120, "rate", BOTH,
        {"steady": 0.97, "overall": 0.92, "rate_limited": 0.007, "early": 0, "unfair": 0.05},
        processes=2,
    ),
    Scenario(
        "slow", "calls of 1 to 3 s, 20 in flight", 180, "slots",
        {**_in_flight(20), "latency_s": (1.0, 3.0)},
        {"steady": 0.97, "overall": 0.95, "rate_limited": 0.015, "early": 0},
        slots=40, peers_concurrency=20,
    ),
    Scenario(
        # The change is between two bursts, so that each call clearly belongs to the old or to the new limit.
        "halved", "rate halved in the middle", 16 * WINDOW_S, "rate", {**_rate(), "latency_s": 0.1},
        {"overall": 0.82, "rate_limited": 0.02, "early": 0},
        changes=(Change(7.5 * WINDOW_S, _rate(RATE // 2)),),
    ),
    Scenario(
        "doubled", "rate doubled in the middle", 26 * WINDOW_S, "rate", {**_rate(), "latency_s": 0.1},
        {"windows_to_90": 12, "rate_limited": 0.005, "early": 0},
        changes=(Change(13 * WINDOW_S, _rate(RATE * 2)),),
    ),
    Scenario(
        "more-in-flight", "concurrency doubled in the middle", 60, "slots", {**_in_flight(3), "latency_s": 0.2},
        {"seconds_to_90": 15, "rate_limited": 0.005, "early": 0},
        changes=(Change(30, _in_flight(6)),),
    ),
    Scenario(
        "outage", "outages of 5 s (drops, 503) in the middle", 44, "slots", {**_in_flight(3), "latency_s": 0.2},
        {"first_answer_s": 1.5, "early": 0, "attempts_lost": 1},
        changes=(Change(12, outage="drop"), Change(28, outage="503")),
    ),
    Scenario(
        "configured", "configured exactly", 120, "rate", BOTH,
        {"steady": 0.98, "overall": 0.97, "rate_limited": 0, "early": 0},
        configured={"rate": "60/6s", "max_in_flight": 3},
    ),
)  # fmt: skip

TRUE_SCALE = Scenario(
    "true-scale", "60 in 60 s, 3 in flight, Retry-After 60 and 5", 600, "rate",
    {"rate": 60, "rate_window_s": 60.0, "concurrency": 3, "concurrency_retry_after_s": 5.0, "latency_s": 1.0},
    {"early": 0},
)  # fmt: skip

PICTURE = Scenario(
    "picture", "the run that is drawn", 150, "rate",
    {**_rate(), **_in_flight(8), "latency_s": (0.1, 0.5)},
    {"early": 0},
    changes=(Change(45, _rate(RATE // 2)), Change(75, _rate(RATE)), Change(132, outage="503")),
)  # fmt: skip
