"""Charts of a report, as SVG for the page. Loaded only for a report: see page.py.

Colors and font are those of the page's style, in light and in dark mode.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, ScalarFormatter

from mira_producer.engine.wait_reason import LABELS
from mira_producer.report.recorder import Bucket, Latencies, Recorder, lower_ms, merged
from mira_producer.text import milliseconds
from mira_queue.contract.batch import Kind

# More points than this cannot be told apart in the width of a page.
MAX_POINTS = 150
# Of a chart on a wide page, and on a telephone.
WIDE_IN, NARROW_IN = (9.0, 2.6), (4.4, 3.0)
MIN_SECONDS = 0.001
# One color for each kind of wait, and those of the other parts of a chart.
WAITS: tuple[Kind, ...] = ("limit", "learning", "faults", "server", "worker", "retry", "paused", "supervisor")
NAMES = ("page", "ink", "soft", "grid", "good", "bad", "one", "two", *WAITS)
# matplotlib needs colors. These are placeholders: each becomes a variable of the page's style.
COLORS = {name: f"#0101{number:02x}" for number, name in enumerate(NAMES)}
STYLE: dict[str, Any] = {
    # Text stays text: small, sharp, searchable, and in the page's font.
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": COLORS["ink"],
    "axes.edgecolor": COLORS["soft"],
    "axes.labelcolor": COLORS["soft"],
    "xtick.color": COLORS["soft"],
    "ytick.color": COLORS["soft"],
    "grid.color": COLORS["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
}
FILLED: dict[str, Any] = {"fill": True, "alpha": 0.75, "linewidth": 0}
LINE: dict[str, Any] = {"baseline": None, "linewidth": 1.6}
DASHED: dict[str, Any] = {"linestyle": (0, (4, 3))}


def svg(draw: Callable[[Axes, Recorder], None], recorder: Recorder, y_label: str, *, is_narrow: bool = False) -> str:
    """Return a chart that one of the functions below draws. Text has the same size in both widths."""
    # The salt keeps the ids of one chart apart from those of the others on the page.
    style: Any = {**STYLE, "svg.hashsalt": f"{draw.__name__}{is_narrow}"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's font lacks, such as a currency sign.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=NARROW_IN if is_narrow else WIDE_IN, layout="constrained")
        axes = figure.add_subplot(ylabel=y_label)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        draw(axes, recorder)
        if draw is not latency:
            _label_time(axes, max(recorder.seconds, MIN_SECONDS), 5 if is_narrow else 10)
            axes.set_ylim(0, 1.06 * max(axes.dataLim.y1, 0) or 1)
        if axes.get_legend_handles_labels()[0]:
            columns = 1 if is_narrow else 4
            figure.legend(loc="outside upper left", ncols=columns, labelcolor=COLORS["ink"], handlelength=1.4)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True)
    return _for_a_page(stream.getvalue())


def throughput(axes: Axes, recorder: Recorder) -> None:
    """Draw lines per second, and the rate that the account's limit allows."""
    times, buckets = _points(recorder)
    answers = _rates(times, [bucket.answers for bucket in buckets])
    tops = _rates(times, [bucket.answers + bucket.failed for bucket in buckets])
    axes.stairs(answers, times, color=COLORS["good"], label="answered", **FILLED)
    if tops != answers:
        axes.stairs(tops, times, baseline=answers, color=COLORS["bad"], label="failed", **FILLED)
    limits = _held([bucket.rate_limit for bucket in buckets])
    # A limit far above the curve would flatten it.
    if any(limit <= 4 * max([*answers, 1e-9]) for limit in limits):
        label = "learned limit, averaged over its window"
        axes.stairs(limits, times, color=COLORS["limit"], label=label, **LINE, **DASHED)


def exceeds_limit(recorder: Recorder) -> bool:
    """Return True if a bar of the throughput is higher than the line of the learned limit."""
    times, buckets = _points(recorder)
    tops = _rates(times, [bucket.answers + bucket.failed for bucket in buckets])
    return any(top > limit for top, limit in zip(tops, _held([bucket.rate_limit for bucket in buckets]), strict=True))


def pacing(axes: Axes, recorder: Recorder) -> None:
    """Draw calls in flight and their limit, and behind them the spans that were at least half a wait, by reason."""
    times, buckets = _points(recorder)
    full_height: Any = {"transform": axes.get_xaxis_transform(), **FILLED, "alpha": 0.2}
    for kind in WAITS:
        waits = [share >= 0.5 for share in _rates(times, [bucket.waited_s.get(kind, 0.0) for bucket in buckets])]
        if any(waits):
            axes.stairs(waits, times, color=COLORS[kind], label=LABELS[kind], **full_height)
    in_flight = _held([bucket.in_flight for bucket in buckets])
    axes.stairs(in_flight, times, color=COLORS["one"], label="calls in flight", **LINE)
    limits = _held([bucket.in_flight_limit for bucket in buckets])
    if not math.isnan(limits[-1]):
        axes.stairs(limits, times, color=COLORS["two"], label="learned limit", **LINE, **DASHED)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def latency(axes: Axes, recorder: Recorder) -> None:
    """Draw a histogram of latencies on a logarithmic scale."""
    latencies = recorder.latencies
    first, last = min(latencies.classes), max(latencies.classes)
    # Pairs of classes: single ones look ragged.
    lefts = range(first - first % 2, last + 1, 2)
    numbers = [latencies.classes[left] + latencies.classes[left + 1] for left in lefts]
    widths = [lower_ms(left + 2) - lower_ms(left) for left in lefts]
    axes.bar([lower_ms(left) for left in lefts], numbers, widths, align="edge", color=COLORS["one"], alpha=0.75)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    # If all calls took the same time, the bar does not fill the chart.
    room = max(1.05, (4 / (lower_ms(last + 1) / lower_ms(first))) ** 0.5)
    least_ms, most_ms = lower_ms(lefts[0]) / room, lower_ms(lefts[-1] + 2) * room
    axes.set_xlim(least_ms, most_ms)
    axes.xaxis.set_major_locator(FixedLocator(_round_times(least_ms, most_ms)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(0, max(numbers) * 1.25)
    axes.set_xlabel("latency")
    _marks(axes, latencies)


def tokens(axes: Axes, recorder: Recorder) -> None:
    """Draw the total of tokens over time."""
    times, buckets = _points(recorder)
    tokens_in = list(accumulate((bucket.usage.prompt_tokens for bucket in buckets), initial=0))
    tokens_out = list(accumulate((bucket.usage.completion_tokens for bucket in buckets), initial=0))
    axes.plot(times, tokens_in, color=COLORS["one"], linewidth=1.8, label="in")
    axes.plot(times, tokens_out, color=COLORS["two"], linewidth=1.8, label="out")


def cost(axes: Axes, recorder: Recorder) -> None:
    """Draw the total cost over time."""
    times, buckets = _points(recorder)
    costs = list(accumulate((float(bucket.usage.cost) for bucket in buckets), initial=0.0))
    axes.plot(times, costs, color=COLORS["good"], linewidth=1.8)
    axes.fill_between(times, costs, color=COLORS["good"], alpha=0.15, linewidth=0)
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _for_a_page(svg: str) -> str:
    """Remove what only a separate file needs, and use the colors and font of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    # The page sets the width. The height follows.
    svg = re.sub(r'<svg\b[^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def _points(recorder: Recorder) -> tuple[list[float], list[Bucket]]:
    """Return the edges of time spans in seconds since the start, and a bucket for each span."""
    timeline, seconds = recorder.timeline, max(recorder.seconds, MIN_SECONDS)
    number = max(1, -(-len(timeline.buckets) // MAX_POINTS))
    # Spans below a second would show the rhythm of our own writes.
    while number * timeline.width_s < min(1.0, seconds / 20):
        number += 1
    width_s = number * timeline.width_s
    buckets = list(merged(timeline.buckets, number)) or [Bucket()]
    buckets += [Bucket() for _ in range(int(seconds / width_s) - len(buckets))]
    # The end cuts the last span off. A sliver is merged into its neighbor.
    if len(buckets) > 1 and seconds < (len(buckets) - 0.5) * width_s:
        last = buckets.pop()
        buckets[-1] = buckets[-1].merge(last)
    return [*(index * width_s for index in range(len(buckets))), seconds], buckets


def _rates(edges: list[float], numbers: Sequence[float]) -> list[float]:
    """Return numbers per second of their span."""
    return [number / (end - begin) for begin, end, number in zip(edges, edges[1:], numbers, strict=False)]


def _marks(axes: Axes, latencies: Latencies) -> None:
    """Draw percentiles as lines. Their labels are stacked, since two can be close to each other."""
    top = axes.get_ylim()[1]
    for row, (share, words) in enumerate(((0.5, "median"), (0.9, "90th percentile"), (0.99, "99th percentile"))):
        value = latencies.quantile(share)
        axes.axvline(value, color=COLORS["ink"], linewidth=0.9, linestyle=(0, (2, 2)))
        axes.annotate(
            f"{words}: {milliseconds(value)}",
            (value, top * (0.97 - 0.09 * row)),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            annotation_clip=False,
            bbox={"facecolor": COLORS["page"], "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )


def _label_time(axes: Axes, seconds: float, max_ticks: int) -> None:
    unit, name = next(
        ((unit, name) for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")) if seconds >= 3 * unit),
        (1, "seconds"),
    )
    ticks = MaxNLocator(max_ticks, steps=[1, 2, 5, 10]).tick_values(0, seconds / unit)
    axes.set_xticks([tick * unit for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.set_xlim(0, seconds)
    axes.set_xlabel(f"{name} since the start")


def _round_times(least_ms: float, most_ms: float) -> list[float]:
    """Return round times within the range, far enough apart for their labels."""
    rounds = (1, 2, 5) if most_ms / least_ms > 12 else (1, 1.5, 2, 3, 4, 5, 7)
    seconds = (*(step * 10**power for power in (-3, -2, -1, 0, 1) for step in rounds), 60, 120, 300, 600, 1800, 3600)
    return [1000 * time_s for time_s in seconds if least_ms <= 1000 * time_s <= most_ms and time_s not in (50, 70)]


def _held(samples: Sequence[float | None]) -> list[float]:
    """Return samples, with each gap filled with the sample before it; NaN before the first one."""
    return list(accumulate(samples, lambda last, each: last if each is None else each, initial=math.nan))[1:]


def _short(value: float, _: object) -> str:
    """Return 1.5k for 1,500, and 2M for 2,000,000."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:,.10g}"
