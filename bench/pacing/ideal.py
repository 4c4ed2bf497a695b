"""Time that an ideal client needs: it sends each call at the first moment at which the account admits it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.limits import AccountLimits

# More than the error of floating point.
TINY_S = 1e-6


def ideal_s(api: Mapping[str, Any], calls: int, began_s: float = 0.0, tokens: int = 0) -> float:
    """Return the time from the first of so many calls to the last.

    `began_s` is the API's clock at the first call. The windows of some limiters begin at fixed times.
    """
    config = SimulatorConfig.model_validate({**api, "concurrency": None})
    if config.rate is not None and config.other_calls:
        # Of a sliding log, the calls of other clients use up their share even if they are rejected.
        rate = round(config.rate - config.other_calls * config.rate_window_s)
        config = config.model_copy(update={"rate": rate, "other_calls": 0.0})
    if config.limiter == "sliding-log":
        # An ideal client is never rejected. This one is, to learn when it would be admitted.
        config = config.model_copy(update={"limiter": "sliding-window"})
    limits, now = AccountLimits(), began_s
    first_s = None
    for _ in range(calls):
        while (verdict := limits.admit(config, now, tokens)).limit:
            now += verdict.wait_s + TINY_S
        first_s = now if first_s is None else first_s
    return now - (first_s or 0.0)
