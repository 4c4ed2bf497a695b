"""The page as HTML, from the templates. Loaded only for a report: see page.py."""

from __future__ import annotations

from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from mira_producer.cost.prices import money
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import LABELS
from mira_producer.report import charts
from mira_producer.report.page import About
from mira_producer.report.recorder import Recorder
from mira_producer.text import duration, milliseconds, per_time, plural


class Tile(NamedTuple):
    """One number at the top of the page."""

    name: str
    value: str
    note: str
    is_bad: bool = False


def render(stats: Stats, recorder: Recorder, about: About) -> str:
    """Return the page. The templates escape everything that comes from files, the API, or the command line."""
    templates = Environment(
        loader=PackageLoader("mira_producer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(count="{:,}".format, duration=duration, milliseconds=milliseconds, plural=plural)
    return templates.get_template("report.html").render(
        about=about,
        charts=charts,
        errors=stats.codes.most_common(),
        models=sorted(stats.models.items(), key=lambda item: -item[1].tokens),
        money=lambda amount: money(amount, stats.prices.currency),
        recorder=recorder,
        slowest=sorted(recorder.slowest, reverse=True),
        stats=stats,
        tiles=_tiles(stats, recorder, about),
        waits=[(LABELS[kind], seconds) for kind, seconds in recorder.waited().items() if kind and seconds >= 0.5],
    )


def _tiles(stats: Stats, recorder: Recorder, about: About) -> list[Tile]:
    lines = stats.succeeded + stats.failed
    rate = per_time(lines / recorder.seconds) if recorder.seconds > 0 else "-"
    tokens = f"{stats.usage.prompt_tokens:,} in, {stats.usage.completion_tokens:,} out"
    tiles = [
        Tile("answered", f"{stats.succeeded:,}", _share(stats.succeeded, lines, about)),
        Tile("failed", f"{stats.failed:,}", _share(stats.failed, lines, about), stats.failed > 0),
        Tile("time", duration(recorder.seconds), f"{rate} on average"),
        Tile("tokens", f"{stats.usage.tokens:,}", tokens),
    ]
    if stats.prices:
        note = (
            f"without {plural(stats.usage.unpriced, 'answer')} that have no price"
            if stats.usage.unpriced
            else "by price table"
        )
        tiles.append(Tile("cost", money(stats.usage.cost, stats.prices.currency), note))
    if recorder.latencies.count:
        median, rare = (milliseconds(recorder.latencies.quantile(share)) for share in (0.5, 0.99))
        tiles.append(Tile("median latency", median, f"99th percentile: {rare}"))
    if retried := recorder.rate_limited() + recorder.repeats:
        note = f"{recorder.rate_limited():,} rate-limited, {plural(recorder.repeats, 'fault')}"
        tiles.append(Tile("calls retried", f"{retried:,}", note))
    if stats.unanswered_calls:
        tiles.append(Tile("calls without a response", f"{stats.unanswered_calls:,}", "may have been billed", True))
    return tiles


def _share(number: int, of: int, about: About) -> str:
    """Return a percentage that is 100 only for all of them, and 0 only for none."""
    if not of:
        return ""
    share = round(100 * number / of, 1)
    whole = "this run" if about.kind == "run" else "the finished lines"
    return f"{share if number in (0, of) else min(99.9, max(0.1, share)):g}% of {whole}"
