"""Answered and failed lines over time, as bars of a chart. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mira_producer.report.recorder import Bucket, Recorder, merged

MAX_BARS = 60
# Spans below a second show the rhythm of our own writes.
MIN_SPAN_S = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One time span: its beginning in seconds after the start, and lines per second."""

    since_s: float
    answered: float
    failed: float
    waited: bool  # no further call could start for at least half of the time


@dataclass(frozen=True, slots=True)
class ThroughputChart:
    """Bars of the same width, from the start of the batch until `seconds`. `top` is the highest bar."""

    bars: tuple[Bar, ...]
    span_s: float
    seconds: float
    top: float


def chart_of(recorder: Recorder) -> ThroughputChart | None:
    """Return the chart of a recorder that has ended, or None if nothing has ended in it."""
    timeline, seconds = recorder.timeline, recorder.seconds
    buckets = list(timeline.buckets)
    if not any(bucket.answers + bucket.failed for bucket in buckets):
        return None
    width = timeline.width_s
    buckets += [Bucket() for _ in range(int(seconds / width) + 1 - len(buckets))]
    number = max(-(-len(buckets) // MAX_BARS), round(MIN_SPAN_S / width), 1)
    span_s = number * width
    bars = tuple(
        Bar(
            place * span_s,
            bucket.answers / span_s,
            bucket.failed / span_s,
            sum(bucket.waited_s.values()) >= span_s / 2,
        )
        for place, bucket in enumerate(merged(buckets, number))
    )
    return ThroughputChart(bars, span_s, seconds, max(bar.answered + bar.failed for bar in bars))
