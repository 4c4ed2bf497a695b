"""The drawings of a report, as SVG to stand in a page. Loaded only when a report is asked for: see report.py.

Colours are names, which the page's style gives a value in light and in dark; so is the font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator, NullLocator

from mira_producer.engine.wait_reason import Kind, duration
from mira_producer.report.recorder import Bucket, Latencies, Recorder, lower_ms, merged

# As many as the eye can tell apart in the width of a page.
MOST_POINTS = 150
WIDTH_IN, HEIGHT_IN = 9.0, 2.6
# matplotlib wants colours: these are drawn by nobody, and each becomes a variable of the page's style.
COLOURS = {
    "page": "#010100",
    "ink": "#010101",
    "soft": "#010102",
    "grid": "#010103",
    "good": "#010104",
    "bad": "#010105",
    "one": "#010106",
    "two": "#010107",
    "wait": "#010108",
    "fault": "#010109",
    "idle": "#01010a",
}
WAIT_COLOURS: dict[Kind, str] = {
    "limit": "wait",
    "finding": "idle",
    "faults": "fault",
    "server": "fault",
    "worker": "idle",
    "retry": "idle",
    "paused": "idle",
    "keeper": "idle",
}
WAIT_WORDS: dict[Kind, str] = {
    "limit": "held back by a limit",
    "finding": "finding the limit",
    "faults": "service unreachable",
    "server": "queue's server away",
    "worker": "no worker",
    "retry": "waiting to try again",
    "paused": "paused",
    "keeper": "not noted",
}
STYLE: dict[str, Any] = {
    # Text stays text: small, sharp, found by a search, and in the page's own font.
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "grid.color": COLOURS["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
}


def throughput(recorder: Recorder) -> str:
    """Lines a second over time, and the rate that the account's limit allows."""
    times, buckets = _points(recorder)

    def draw(axes: Axes) -> None:
        answers = _rates(times, [bucket.answers for bucket in buckets])
        failed = _rates(times, [bucket.failed for bucket in buckets])
        _steps(axes, times, answers, "good", "answered")
        if any(failed):
            tops = [low + high for low, high in zip(answers, failed, strict=True)]
            _steps(axes, times, tops, "bad", "failed", above=answers)
        limits = _filled([bucket.rate_limit for bucket in buckets])
        # A limit far above what was reached would press the curve to the floor.
        if any(limit is not None and limit <= 4 * max([*answers, 1e-9]) for limit in limits):
            _line(axes, times, limits, "wait", "learned limit", dashed=True)
        axes.set_ylabel("lines per second")

    return _drawn("throughput", draw, time_axis=times[-1])


def pacing(recorder: Recorder) -> str:
    """Calls in flight over time with the limit on them; behind them, when and why nothing more could leave."""
    times, buckets = _points(recorder)

    def draw(axes: Axes) -> None:
        for kind, words in WAIT_WORDS.items():
            shares = _rates(times, [bucket.waited_s.get(kind, 0.0) for bucket in buckets])
            _bands(axes, times, shares, WAIT_COLOURS[kind], words)
        flying = _filled([bucket.flying for bucket in buckets])
        _line(axes, times, flying, "one", "calls in flight")
        limits = _filled([bucket.flight_limit for bucket in buckets])
        if any(limit is not None for limit in limits):
            _line(axes, times, limits, "two", "learned limit", dashed=True)
        axes.set_ylabel("calls")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))

    return _drawn("pacing", draw, time_axis=times[-1])


def latency(latencies: Latencies) -> str:
    """How many calls took how long, on a scale that doubles."""

    def draw(axes: Axes) -> None:
        first, last = min(latencies.classes), max(latencies.classes)
        # Few classes make a wall, many a saw: pairs of them.
        lefts = range(first - first % 2, last + 1, 2)
        numbers = [latencies.classes[left] + latencies.classes[left + 1] for left in lefts]
        widths = [lower_ms(left + 2) - lower_ms(left) for left in lefts]
        axes.bar([lower_ms(left) for left in lefts], numbers, widths, align="edge", color=COLOURS["one"], alpha=0.75)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        # Calls that all took the same time are one bar, and not a wall.
        room = max(1.05, (4 / (lower_ms(last + 1) / lower_ms(first))) ** 0.5)
        least_ms, most_ms = lower_ms(lefts[0]) / room, lower_ms(lefts[-1] + 2) * room
        axes.set_xlim(least_ms, most_ms)
        axes.xaxis.set_major_locator(FixedLocator(_round_times(least_ms, most_ms)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylim(0, max(numbers) * 1.25)
        _marks(axes, latencies)
        axes.set_ylabel("calls")
        axes.set_xlabel("time of the call that answered")

    return _drawn("latency", draw)


def errors(codes: Sequence[tuple[str, int]]) -> str:
    """Failed lines by code, the most frequent first."""

    def draw(axes: Axes) -> None:
        names, numbers = [name for name, _ in codes], [number for _, number in codes]
        bars = axes.barh(range(len(codes)), numbers, 0.6, color=COLOURS["bad"], alpha=0.8)
        axes.bar_label(bars, [f"{number:,}" for number in numbers], padding=4)
        axes.set_yticks(range(len(codes)), names)
        axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xticks([])
        axes.margins(x=0.08)

    return _drawn("errors", draw, height_in=0.35 + 0.3 * len(codes))


def tokens(recorder: Recorder) -> str:
    """Tokens over time, added up."""
    times, buckets = _points(recorder)

    def draw(axes: Axes) -> None:
        tokens_in = _sums([0, *(bucket.prompt_tokens for bucket in buckets)])
        tokens_out = _sums([0, *(bucket.completion_tokens for bucket in buckets)])
        axes.plot(times, tokens_in, color=COLOURS["one"], linewidth=1.8, label="in")
        axes.plot(times, tokens_out, color=COLOURS["two"], linewidth=1.8, label="out")
        axes.set_ylabel("tokens so far")

    return _drawn("tokens", draw, time_axis=times[-1])


def cost(recorder: Recorder, currency: str) -> str:
    """Cost over time, added up."""
    times, buckets = _points(recorder)

    def draw(axes: Axes) -> None:
        costs = _sums([0.0, *(float(bucket.cost) for bucket in buckets)])
        axes.plot(times, costs, color=COLOURS["good"], linewidth=1.8)
        axes.fill_between(times, costs, color=COLOURS["good"], alpha=0.15, linewidth=0)
        axes.set_ylabel(f"{currency} so far")

    return _drawn("cost", draw, time_axis=times[-1], plain_y=True)


def milliseconds(value: float) -> str:
    """For people: 5 ms, 120 ms, 1.5 s, 2 min 5 s."""
    if value < 999.5:
        return f"{value:.0f} ms"
    return f"{value / 1000:.3g} s" if value < 59_950 else duration(value / 1000)


def _drawn(
    name: str,
    draw: Callable[[Axes], None],
    *,
    time_axis: float | None = None,
    height_in: float = HEIGHT_IN,
    plain_y: bool = False,
) -> str:
    # The salt keeps the names inside one drawing apart from those of the others in the page.
    style: Any = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A sign that its own font lacks (a currency's, say) is drawn by the browser's.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.add_subplot()
        if not plain_y:
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_formatter(FuncFormatter(_short))
        if time_axis is not None:
            _label_time(axes, time_axis)
        draw(axes)
        if time_axis is not None:
            # Above the highest line some air; nothing at all is drawn at the foot.
            axes.set_ylim(0, 1.06 * max(axes.dataLim.y1, 0) or 1)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper left", ncols=8, labelcolor=COLOURS["ink"], handlelength=1.4)
        stream = io.StringIO()
        figure.savefig(
            stream,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _for_a_page(stream.getvalue())


def _for_a_page(svg: str) -> str:
    """Without what only a file of its own needs, and with the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    # The width is the page's; the height follows.
    svg = re.sub(r'^<svg([^>]*?)\swidth="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?)\sheight="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def _points(recorder: Recorder) -> tuple[list[float], list[Bucket]]:
    """Edges of stretches of time in seconds since the start, one more than there are stretches; and what happened."""
    timeline, seconds = recorder.timeline, max(recorder.seconds, 0.001)
    number = max(1, -(-len(timeline.buckets) // MOST_POINTS))
    # A stretch below a second shows the rhythm of our own writing, and not the service's.
    while number * timeline.width_s < min(1.0, seconds / 20):
        number += 1
    width_s = number * timeline.width_s
    buckets = list(merged(timeline.buckets, number)) or [Bucket()]
    buckets += [Bucket() for _ in range(int(seconds / width_s) - len(buckets))]
    # The end cuts off the last one; a sliver of one goes to its neighbour.
    if len(buckets) > 1 and seconds < (len(buckets) - 0.5) * width_s:
        last = buckets.pop()
        buckets[-1] = buckets[-1].merge(last)
    return [*(index * width_s for index in range(len(buckets))), seconds], buckets


def _rates(edges: list[float], numbers: Sequence[float]) -> list[float]:
    """Numbers as so many a second of their stretch."""
    return [number / (end - begin) for begin, end, number in zip(edges, edges[1:], numbers, strict=False)]


def _steps(
    axes: Axes, edges: list[float], values: list[float], colour: str, words: str, above: list[float] | None = None
) -> None:
    axes.stairs(
        values,
        edges,
        baseline=above if above is not None else 0,
        fill=True,
        color=COLOURS[colour],
        alpha=0.75,
        linewidth=0,
        label=words,
    )


def _line(
    axes: Axes, edges: list[float], values: Sequence[float | None], colour: str, words: str, *, dashed: bool = False
) -> None:
    axes.stairs(
        [float("nan") if value is None else value for value in values],
        edges,
        baseline=None,
        color=COLOURS[colour],
        linewidth=1.6,
        linestyle=(0, (4, 3)) if dashed else "-",
        label=words,
    )


def _bands(axes: Axes, edges: list[float], shares: list[float], colour: str, words: str) -> None:
    """A band from bottom to top for each stretch in which more than half of the time was waited."""
    begin: float | None = None
    label: str | None = words
    for edge, share in zip(edges, [*shares, 0.0], strict=True):
        if share >= 0.5 and begin is None:
            begin = edge
        elif share < 0.5 and begin is not None:
            axes.axvspan(begin, edge, color=COLOURS[colour], alpha=0.18, linewidth=0, label=label)
            begin, label = None, None


def _marks(axes: Axes, latencies: Latencies) -> None:
    """Median and the rare ones, each a line with its words; where two come close, the words stand one below another."""
    top = axes.get_ylim()[1]
    for row, (share, words) in enumerate(((0.5, "half"), (0.9, "90%"), (0.99, "99%"))):
        value = latencies.quantile(share)
        axes.axvline(value, color=COLOURS["ink"], linewidth=0.9, linestyle=(0, (2, 2)))
        axes.annotate(
            f"{words} within {milliseconds(value)}",
            (value, top * (0.97 - 0.09 * row)),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            annotation_clip=False,
            bbox={"facecolor": COLOURS["page"], "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )


def _label_time(axes: Axes, seconds: float) -> None:
    unit, name = next(
        ((unit, name) for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")) if seconds >= 3 * unit),
        (1, "seconds"),
    )
    step = next(
        (step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300) if seconds / unit / step <= 10), 600
    )
    axes.set_xlim(0, seconds)
    axes.xaxis.set_major_locator(MultipleLocator(step * unit))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}"))
    axes.set_xlabel(f"{name} since the start")


def _round_times(least_ms: float, most_ms: float) -> list[float]:
    """Round times within, at a distance that leaves room for their words."""
    rounds = (1, 2, 5) if most_ms / least_ms > 12 else (1, 1.5, 2, 3, 4, 5, 7)
    seconds = (*(step * 10**power for power in (-3, -2, -1, 0, 1) for step in rounds), 60, 120, 300, 600, 1800, 3600)
    return [1000 * time_s for time_s in seconds if least_ms <= 1000 * time_s <= most_ms and time_s not in (50, 70)]


def _filled(values: Sequence[float | None]) -> list[float | None]:
    """Where nobody looked, what was seen last."""
    last: float | None = None
    filled: list[float | None] = []
    for value in values:
        last = last if value is None else value
        filled.append(last)
    return filled


def _sums(values: Sequence[float]) -> list[float]:
    total = 0.0
    sums = []
    for value in values:
        total += value
        sums.append(total)
    return sums


def _short(value: float, _: object) -> str:
    """1,500 as 1.5k, 2,000,000 as 2M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:,.10g}"
