"""Learned limits over time, as lines of steps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mira_producer.text import duration
from mira_queue.contract.pace import LimitChange

WIDTH, HEIGHT = 600, 120
MIN_SPAN_MS = 60_000
# The highest value, as a share of the height.
HEADROOM = 0.9


@dataclass(frozen=True, slots=True)
class LimitChart:
    """The steps of one limit, as the path of an SVG. `values` are its lowest and its highest known value."""

    name: str
    path: str
    values: tuple[float, float]
    now: float
    since_ms: int
    until_ms: int


def charts_of(changes: Sequence[LimitChange], now_ms: int) -> list[LimitChart]:
    """Return a chart for each limit that has been known."""
    rates = [(each.at_ms, 60_000 * each.rate / each.window_ms if each.window_ms else 0.0) for each in changes]
    in_flight = [(each.at_ms, float(each.in_flight)) for each in changes]
    charts = (_chart("calls per minute", rates, now_ms), _chart("calls in flight", in_flight, now_ms))
    return [chart for chart in charts if chart is not None]


def _chart(name: str, steps: Sequence[tuple[int, float]], now_ms: int) -> LimitChart | None:
    known = [value for _, value in steps if value]
    if not known:
        return None
    since_ms = min(steps[0][0], now_ms - MIN_SPAN_MS)
    top = max(known) / HEADROOM
    parts: list[str] = []
    ends_ms = [at_ms for at_ms, _ in steps[1:]] + [now_ms]
    was_known = False
    for (at_ms, value), end_ms in zip(steps, ends_ms, strict=True):
        if value:
            left, right = (WIDTH * (each - since_ms) / (now_ms - since_ms) for each in (at_ms, end_ms))
            y = HEIGHT * (1 - value / top)
            parts.append(f"{'L' if was_known else 'M'}{left:.1f} {y:.1f}L{right:.1f} {y:.1f}")
        was_known = bool(value)
    return LimitChart(name, "".join(parts), (min(known), max(known)), steps[-1][1], since_ms, now_ms)


def change_text(change: LimitChange) -> str:
    """Return the limits from a change on."""
    window_s = change.window_ms / 1000
    window = f"{window_s:g} s" if window_s < 120 else duration(window_s)
    rate = f"{change.rate:,} per {window}" if change.rate else "rate limit unknown"
    return f"{rate}, {f'{change.in_flight:,} in flight' if change.in_flight else 'concurrency limit unknown'}"
