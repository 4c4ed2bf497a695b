"""Scenarios of other servers: each kind of limiter, and each way to state the wait. 600 calls at 60 per 6 s."""

from __future__ import annotations

from typing import Any

from bench.pacing.scenarios import BOTH, RATE, WINDOW_S, Change, Scenario

CALLS = 600
# A run that is not finished then has missed its target anyway.
MAX_S = 240.0
# A call counts with about this many tokens.
CALL_TOKENS = 100
# A run of 40 s at the limit: 3 in flight for 20 s, then 2. Calls take 0.3 s on average. Each limit costs Mira's
# Retry-After of 5 s once, so that no client without configured limits reaches more than 0.8.
LOWERED_AT_S, LOWERED_CALLS = 20.0, round(20 * (3 + 2) / 0.3)

_OTHERS = {"other_calls": 3.0}
_FIXED = {"rate": RATE, "rate_window_s": WINDOW_S, "limiter": "fixed-window", "latency_s": 0.1}
_BUCKET = {"rate": 10, "rate_window_s": 1.0, "limiter": "token-bucket", "latency_s": 0.1}
_LEAKY = {**_BUCKET, "limiter": "leaky-bucket", "burst": 10}
_SLIDING = {**_FIXED, "limiter": "sliding-window"}
_TOKENS = {"token_rate": RATE * CALL_TOKENS, "token_window_s": WINDOW_S, "latency_s": 0.1}


def _row(name: str, title: str, api: dict[str, Any], share: float, rate_limited: float, **more: Any) -> Scenario:
    targets = {"overall": share, "rate_limited": rate_limited, "early": 0}
    return Scenario(name, title, MAX_S, "calls", api, targets, calls=CALLS, **more)


# The table of limiters in servers.md, row by row.
TABLE = (
    _row("log", "sliding log, 3 in flight", BOTH, 0.90, 0.005),
    _row("log-others", "the same, another client: 3 per s", {**BOTH, **_OTHERS, "other_calls_at": "even"}, 0.85, 0.015),
    _row("fixed-fraction", "fixed window, fractions", {**_FIXED, "retry_after_form": "fraction"}, 0.97, 0.01),
    _row("fixed-integer", "fixed window, rounded up", {**_FIXED, "retry_after_form": "integer"}, 0.97, 0.01),
    _row("fixed-ms", "fixed window, retry-after-ms", {**_FIXED, "retry_after_form": "ms"}, 0.97, 0.01),
    _row(
        "fixed-headers", "fixed window, only headers on every response",
        {**_FIXED, "retry_after_form": "missing", "rate_headers": "openai"}, 0.97, 0.005,
    ),
    _row("bucket-fraction", "bucket of 10, fractions", {**_BUCKET, "retry_after_form": "fraction"}, 0.97, 0.02),
    _row("bucket-integer", "bucket of 10, rounded up", {**_BUCKET, "retry_after_form": "integer"}, 0.97, 0.02),
    _row("bucket-ms", "bucket of 10, retry-after-ms", {**_BUCKET, "retry_after_form": "ms"}, 0.97, 0.02),
    _row(
        "tokens", "tokens, bucket, rounded up", {**_TOKENS, "retry_after_form": "integer"}, 0.97, 0.02,
        max_tokens=CALL_TOKENS - 4,
    ),
)  # fmt: skip

# Kinds and forms that the table does not have. A target is that of the most similar row.
MORE = (
    _row("log-random", "sliding log, other clients: 3 per s at random", {**BOTH, **_OTHERS}, 0.85, 0.015),
    _row("leaky", "leaky bucket that holds 10, fractions", {**_LEAKY, "retry_after_form": "fraction"}, 0.97, 0.02),
    _row("leaky-1", "leaky bucket that holds 1", {**_LEAKY, "burst": 1, "retry_after_form": "fraction"}, 0.97, 0.02),
    _row("leaky-0", "leaky bucket that holds none", {**_LEAKY, "burst": 0, "retry_after_form": "fraction"}, 0.97, 0.02),
    _row("sliding", "sliding window, fractions", {**_SLIDING, "retry_after_form": "fraction"}, 0.90, 0.01),
    _row("sliding-unix", "sliding window, Unix time", {**_SLIDING, "retry_after_form": "unix"}, 0.90, 0.01),
    _row(
        "sliding-reset", "sliding window, X-RateLimit-Reset in ms on each 429",
        {**_SLIDING, "retry_after_form": "missing", "rate_headers": "unix-ms", "rate_headers_on": "429"}, 0.90, 0.01,
    ),
    _row(
        "bucket-draft", "bucket of 10, only RateLimit on every response",
        {**_BUCKET, "retry_after_form": "missing", "rate_headers": "draft"}, 0.97, 0.02,
    ),
    _row(
        "tokens-fixed", "tokens, fixed window, x-ms-retry-after-ms",
        {**_TOKENS, "token_limiter": "fixed-window", "retry_after_form": "x-ms"}, 0.97, 0.02,
        max_tokens=CALL_TOKENS - 4,
    ),
    Scenario(
        "lowered", "3 in flight, 2 after 20 s", MAX_S, "calls",
        {"concurrency": 3, "concurrency_retry_after_s": 5.0, "latency_s": (0.1, 0.5)},
        {"overall": 0.75, "rate_limited": 0.02, "early": 0},
        calls=LOWERED_CALLS, ideal_s=2 * LOWERED_AT_S, changes=(Change(LOWERED_AT_S, {"concurrency": 2}),),
    ),
)  # fmt: skip

SERVERS = (*TABLE, *MORE)
