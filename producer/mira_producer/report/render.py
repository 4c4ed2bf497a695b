"""The page as HTML, from the templates. Loaded only for a report: see page.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from mira_producer.cost.prices import money
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import LABELS
from mira_producer.report import charts
from mira_producer.report.recorder import Recorder
from mira_producer.text import duration, milliseconds, per_time, plural
from mira_queue.contract.batch import Batch


def render(
    batch: Batch,
    errors_name: str,
    where: str,
    began: datetime,
    stats: Stats,
    recorder: Recorder,
    prompts: Mapping[int, str] | None,
) -> str:
    """Return the page. The templates escape everything that comes from files, the API, or the command line."""
    templates = Environment(
        # Colors and fonts are those of the web page.
        loader=ChoiceLoader([PackageLoader("mira_producer.report"), PackageLoader("mira_producer.page", "static")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(count="{:,}".format, duration=duration, milliseconds=milliseconds, plural=plural)
    templates.filters.update(per_time=per_time, share=_share)
    return templates.get_template("report.html").render(
        batch=batch,
        began=began,
        charts=charts,
        errors=stats.codes.most_common(),
        errors_name=errors_name,
        models=sorted(stats.models.items(), key=lambda item: -item[1].tokens),
        prompts=prompts,
        money=lambda amount: money(amount, stats.prices.currency),
        recorder=recorder,
        slowest=sorted(recorder.slowest, reverse=True),
        stats=stats,
        waits=[(LABELS[kind], seconds) for kind, seconds in recorder.waited().items() if kind and seconds >= 0.5],
        where=where,
    )


def _share(number: int, of: int) -> str:
    """Return a percentage that is 100 only for all of them, and 0 only for none."""
    if not of:
        return ""
    share = round(100 * number / of, 1)
    return f"{share if number in (0, of) else min(99.9, max(0.1, share)):g}% of the finished lines"
