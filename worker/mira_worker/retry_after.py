"""Wait that a response states. Pure: headers, a body, and a time in, a wait out.

Order of precedence, the first wait that is longer than zero counts:

1. `Retry-After`: seconds, fractions, a date, or a Unix time
2. `retry-after-ms`, `x-ms-retry-after-ms`
3. `retry_after`, `retry_after_ms`, or `retryDelay` in the body
4. the reset of a quota (`mira_worker.pacing.headers`): of those that are used up, the latest

If none is longer than zero, but one is stated, the wait is a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from mira_queue.contract.pace import StatedWait
from mira_worker.pacing.headers import Quota, quotas, server_time
from mira_worker.pacing.moments import seconds_until

# The API's longest documented window is a minute.
WHEN_MISSING = timedelta(seconds=60)
# A daily quota may say "until tomorrow". No limit says more.
MAX_WAIT = timedelta(days=1)
# "0" and dates that have just passed mean "now". If all workers took that literally, they would all retry immediately.
MIN_WAIT = timedelta(seconds=1)


def parse_retry_after(header: str | None, now: datetime) -> StatedWait:
    """Parse one Retry-After header (RFC 9110, 10.2.3). Never raises.

    A missing or unreadable header means a minute, more than a day means a day, and a time that is not in the future
    means a second. Fractions are kept, even small ones.
    """
    return wait_after_limit({} if header is None else {"retry-after": header}, (), now)


def wait_after_limit(headers: Mapping[str, str], parts: tuple[Mapping[str, Any], ...], now: datetime) -> StatedWait:
    """Return the wait after a 429. If none is stated, it is a minute."""
    stated = stated_wait(headers, parts, now)
    if stated is not None:
        return stated
    text = headers.get("retry-after", "").strip()
    return StatedWait(WHEN_MISSING, False, f"unreadable: {text[:40]!r}" if text else "missing")


def stated_wait(headers: Mapping[str, str], parts: tuple[Mapping[str, Any], ...], now: datetime) -> StatedWait | None:
    """Return the wait that the headers or the objects of an error body state, or None."""
    now = server_time(headers, now)
    found = [(seconds, text) for seconds, text in (*_in_headers(headers, now), *_in_body(parts, now))]
    resets = _resets(quotas({**_headers_in(parts), **headers}, now))
    found += [(seconds, f"reset in {seconds:g} s") for seconds in resets]
    if not found:
        return None
    return _bounded(*next((each for each in found if each[0] > 0), found[0]))


def _in_headers(headers: Mapping[str, str], now: datetime) -> Iterator[tuple[float, str]]:
    for name in ("retry-after", "retry-after-ms", "x-ms-retry-after-ms"):
        yield from _read(headers.get(name, ""), now, is_ms=name.endswith("-ms"))


def _in_body(parts: tuple[Mapping[str, Any], ...], now: datetime) -> Iterator[tuple[float, str]]:
    for name in ("retry_after", "retry_after_seconds", "retry_after_ms", "retryDelay"):
        for part in parts:
            if isinstance(part.get(name), str | int | float) and not isinstance(part[name], bool):
                yield from _read(str(part[name])[:100], now, is_ms=name.endswith("_ms"))


def _read(text: str, now: datetime, *, is_ms: bool) -> Iterator[tuple[float, str]]:
    try:
        seconds = float(text) / 1000 if is_ms else seconds_until(text, now)
    except ValueError:
        return
    if seconds is not None and not math.isnan(seconds):
        yield seconds, text


def _headers_in(parts: tuple[Mapping[str, Any], ...]) -> dict[str, str]:
    """Return the headers that a gateway has put into the body of an error."""
    found: dict[str, str] = {}
    for part in parts:
        inner = part.get("headers")
        if isinstance(inner, dict):
            found |= {str(name).lower(): str(value)[:100] for name, value in list(inner.items())[:100]}
    return found


def _resets(found: list[Quota]) -> list[float]:
    """Return the reset that has to pass, in seconds; empty if none is known."""
    used_up = [quota.reset_s for quota in found if quota.remaining == 0 and quota.reset_s is not None]
    # With something left of each quota, the request needs more tokens than are left.
    of_tokens = [quota.reset_s for quota in found if quota.is_tokens and quota.reset_s is not None]
    any_reset = [quota.reset_s for quota in found if quota.reset_s is not None]
    resets = used_up or of_tokens or any_reset
    return [max(resets)] if resets else []


def _bounded(seconds: float, text: str) -> StatedWait:
    if seconds > MAX_WAIT.total_seconds():
        return StatedWait(MAX_WAIT, remark=f"absurd: {text[:40]!r}")
    if seconds < 0:
        return StatedWait(MIN_WAIT, remark=f"negative or in the past: {text[:40]!r}")
    if seconds == 0:
        return StatedWait(MIN_WAIT)
    # Rounded up to a millisecond, the resolution of the ledger's clock: rounded down, a call would start too early.
    return StatedWait(timedelta(milliseconds=math.ceil(seconds * 1000)))
