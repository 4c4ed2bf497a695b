"""Scenarios of a start: the first file of a new account, and an account without limits."""

from __future__ import annotations

from bench.pacing.scenarios import Scenario

MIRA = {"rate": 60, "rate_window_s": 60.0, "concurrency": 3, "concurrency_retry_after_s": 5.0, "backend": "mira"}
# What Mira's own base is expected to have. The simulator's base is another one.
EXPECTED = {"expected_rate": "60/60s", "expected_in_flight": 3}
# A call of Mira's smallest model.
CALL_S = 0.37

START_UP = (
    Scenario(
        "first-50", "50 lines with Mira's limits, 0.37 s per call", 60, "calls", {**MIRA, "latency_s": CALL_S},
        {"took_s": 7, "rate_limited": 0, "early": 0},
        configured=EXPECTED, lines=50, ideal_s=17 * CALL_S,
    ),
    Scenario(
        "first-300", "300 lines with Mira's limits, 0.37 s per call", 600, "calls", {**MIRA, "latency_s": CALL_S},
        {"times_ideal": 1.08, "rate_limited": 0, "early": 0},
        configured=EXPECTED, lines=300, ideal_s=4 * 60 + 20 * CALL_S,
    ),
    Scenario(
        "no-limit", "no limit, 8,000 calls of 5 s, 1,000 slots", 120, "calls", {"latency_s": 5.0},
        {"slots_200_s": 4, "slots_1000_s": 8, "overall": 0.9, "rate_limited": 0, "early": 0},
        slots=1000, calls=8000, ideal_s=40,
    ),
)  # fmt: skip
