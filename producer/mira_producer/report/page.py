"""A run as one page that opens without a network: what happened, how fast, why not faster, and what it cost."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Literal, Protocol

from mira_producer.cost.prices import money
from mira_producer.cost.usage import Usage
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import Kind, duration
from mira_producer.jsonl.errors import InputError
from mira_producer.report.recorder import Latencies, Recorder
from mira_producer.text import per_time

MOST_ERRORS_DRAWN = 12
# A browser takes nothing from anywhere, whatever an error's text may hold.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class About:
    """What the page is of. `where` is the API's address, or that it was a simulator; `reason` says how the run ended,
    empty when it came to its end; `began` knows its time zone; `kind` is what the page is of.
    """

    input: str
    output: str
    errors: str
    where: str
    began: datetime
    reason: str = ""
    kind: Literal["run", "batch"] = "run"


class Charts(Protocol):
    """What charts.py draws."""

    def throughput(self, recorder: Recorder) -> str: ...
    def pacing(self, recorder: Recorder) -> str: ...
    def latency(self, latencies: Latencies) -> str: ...
    def errors(self, codes: Sequence[tuple[str, int]]) -> str: ...
    def tokens(self, recorder: Recorder) -> str: ...
    def cost(self, recorder: Recorder, currency: str) -> str: ...
    def milliseconds(self, value: float) -> str: ...


def check_report(path: Path, files: Iterable[Path] = ()) -> None:
    """Before anything is sent: can the page be drawn and written, and is it none of the run's `files`?

    Raises InputError.
    """
    _charts()
    if path.resolve() in {file.resolve() for file in files}:
        raise InputError(f"--report is a file of the run itself, {path}: name another one")
    folder = path.resolve().parent
    if path.is_dir():
        raise InputError(f"{path}: cannot be written: Is a directory")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path}: cannot be written: {folder} is no folder one can write to")


def write_report(path: Path, stats: Stats, recorder: Recorder, about: About) -> None:
    """Write the page; what was there is replaced at once, by all of it. Raises InputError."""
    recorder.end()
    page = page_of(stats, recorder, about, _charts())
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None


def page_of(stats: Stats, recorder: Recorder, about: About, charts: Charts) -> str:
    """The page's HTML. Everything that comes from files, the API or the command line is escaped."""
    style = resources.files("mira_producer.report").joinpath("report.css").read_text(encoding="utf-8")
    parts = [
        _head(stats, recorder, about),
        _tiles(stats, recorder, about, charts),
        _over_time(stats, recorder, charts),
        _latency(recorder, charts),
        _errors(stats, recorder, about, charts),
        _spent(stats, recorder, charts),
        _slowest(recorder, charts),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(about.input)} - mira-queue {about.kind}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _charts() -> Charts:
    try:
        # Half a second, and a large library: for those who ask for a report.
        charts: Charts = importlib.import_module("mira_producer.report.charts")
    except ImportError as error:
        raise InputError(f"--report needs matplotlib ({error}): pip install matplotlib") from None
    return charts


def _head(stats: Stats, recorder: Recorder, about: About) -> str:
    before = stats.before + stats.failed_before
    earlier = f", after {before:,} that had ended in earlier runs" if before else ""
    began = about.began.strftime("%Y-%m-%d %H:%M:%S %Z")
    reason = f'\n<p class="reason">{escape(about.reason)}</p>' if about.reason else ""
    return (
        f"<header>\n<h1>{escape(about.input)}</h1>\n"
        f"<p>{stats.succeeded + stats.failed:,} of {stats.total:,} lines in this {about.kind}{earlier}, "
        f"to {escape(about.where)}, from {escape(began)}, in {duration(recorder.seconds)}.</p>{reason}\n</header>"
    )


def _tiles(stats: Stats, recorder: Recorder, about: About, charts: Charts) -> str:
    ended = stats.succeeded + stats.failed
    rate = per_time(ended / recorder.seconds) if recorder.seconds > 0 else "-"
    tiles = [
        ("answered", f"{stats.succeeded:,}", _share(stats.succeeded, ended, about), False),
        ("failed", f"{stats.failed:,}", _share(stats.failed, ended, about), stats.failed > 0),
        ("time", duration(recorder.seconds), f"{rate} on average", False),
        ("tokens", f"{stats.usage.tokens:,}", _in_and_out(stats), False),
    ]
    if stats.prices:
        unpriced = stats.usage.unpriced
        left_out = f"without {unpriced:,} answers that have no price" if unpriced else "by your price table"
        tiles.append(("cost", money(stats.usage.cost, stats.prices.currency), left_out, False))
    if recorder.latencies.count:
        rare = f"99% within {charts.milliseconds(recorder.latencies.quantile(0.99))}"
        tiles.append(("half of the calls within", charts.milliseconds(recorder.latencies.quantile(0.5)), rare, False))
    if refusals := recorder.refusals():
        tiles.append(("calls refused by a limit", f"{refusals:,}", "seen, and made again", False))
    if recorder.repeats:
        tiles.append(("calls that met a fault", f"{recorder.repeats:,}", "and were made again", False))
    if stats.unanswered_calls:
        tiles.append(("calls without an answer", f"{stats.unanswered_calls:,}", "may have been billed", True))
    drawn = "\n".join(
        f'<div class="tile{" bad" if bad else ""}"><dt>{escape(name)}</dt><dd>{escape(value)}'
        f"<small>{escape(note)}</small></dd></div>"
        for name, value, note, bad in tiles
    )
    return f'<dl class="tiles">\n{drawn}\n</dl>'


def _over_time(stats: Stats, recorder: Recorder, charts: Charts) -> str:
    if not stats.succeeded + stats.failed and not recorder.waited():
        return ""
    waited = recorder.waited()
    words: dict[Kind, str] = {
        "limit": "held back by the account's limit for",
        "finding": "more calls at a time were tried, step by step, for",
        "faults": "the service was unreachable for",
        "server": "the queue's server was away for",
        "worker": "no worker was there for",
        "retry": "all that was left waited to be tried again for",
        "paused": "it was paused for",
        "keeper": "nobody was there to note what happened for",
    }
    said = "; ".join(
        f"{words[kind]} {duration(seconds)}" for kind, seconds in waited.items() if kind and seconds >= 0.5
    )
    note = f"{said[0].upper()}{said[1:]}." if said else "Nothing held the run back."
    note += " Calls in flight are those that were seen, twice a second."
    return _section("Throughput", "", charts.throughput(recorder)) + _section(
        "Waits and limits", note, charts.pacing(recorder)
    )


def _latency(recorder: Recorder, charts: Charts) -> str:
    if not recorder.latencies.count:
        return ""
    return _section("Latency", "Of the calls that brought an answer.", charts.latency(recorder.latencies))


def _errors(stats: Stats, recorder: Recorder, about: About, charts: Charts) -> str:
    if not stats.failed:
        return ""
    codes = stats.codes.most_common()
    rows = []
    for code, count in codes:
        custom_id, detail = recorder.samples.get(code, ("", ""))
        rows.append((_code(code), _number(f"{count:,}"), _code(custom_id), escape(detail)))
    table = _table(("code", "lines", "for example", "what was said"), rows, numbers=(1,))
    note = f"{stats.failed:,} {'line' if stats.failed == 1 else 'lines'}, in {about.errors}."
    return _section("Errors", note, charts.errors(codes[:MOST_ERRORS_DRAWN]), table)


def _spent(stats: Stats, recorder: Recorder, charts: Charts) -> str:
    if not stats.has_tokens:
        return ""
    models = sorted(stats.models.items(), key=lambda item: item[1].tokens)
    rows = [(_code(name), *map(_number, _model_cells(entry, stats))) for name, entry in reversed(models)]
    columns = ("model", "answers", "tokens in", "tokens out", *(("cost",) if stats.prices else ()))
    table = _table(columns, rows, numbers=range(1, len(columns)))
    notes = []
    if stats.usage.uncounted:
        notes.append(f"{stats.usage.uncounted:,} answers said nothing of tokens.")
    if stats.unanswered_calls:
        notes.append(
            f"{stats.unanswered_calls:,} calls whose answer was lost may have been billed, and are not in here."
        )
    cost = charts.cost(recorder, stats.prices.currency) if stats.prices else ""
    heading = "Tokens and cost" if stats.prices else "Tokens"
    return _section(heading, " ".join(notes), charts.tokens(recorder), _figure(cost), table)


def _model_cells(entry: Usage, stats: Stats) -> list[str]:
    cells = [f"{entry.answers:,}", f"{entry.prompt_tokens:,}", f"{entry.completion_tokens:,}"]
    if stats.prices:
        cells.append("no price" if entry.unpriced == entry.answers else money(entry.cost, stats.prices.currency))
    return cells


def _slowest(recorder: Recorder, charts: Charts) -> str:
    slowest = sorted(recorder.slowest, reverse=True)
    if not slowest:
        return ""
    rows = [(_code(slow.custom_id), _number(charts.milliseconds(slow.latency_ms))) for slow in slowest]
    return _section("Slowest lines", "", "", _table(("custom_id", "latency"), rows, numbers=(1,)))


def _section(heading: str, note: str, drawing: str, *more: str) -> str:
    said = f"\n<p>{escape(note)}</p>" if note else ""
    return f"<section>\n<h2>{escape(heading)}</h2>{said}\n{_figure(drawing)}{''.join(more)}\n</section>\n"


def _figure(drawing: str) -> str:
    return f"<figure>{drawing}</figure>\n" if drawing else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int]) -> str:
    """Cells are HTML already."""
    right = set(numbers)
    head = "".join(
        f"<th{' class=number' if place in right else ''}>{escape(name)}</th>" for place, name in enumerate(columns)
    )
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{' class=number' if place in right else ''}>{cell}</td>" for place, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>" if text else ""


def _number(text: str) -> str:
    return escape(text)


def _share(number: int, of: int, about: About) -> str:
    """Never all of them while one is missing, never none of them while there is one."""
    if not of:
        return ""
    share = round(100 * number / of, 1)
    whole = "this run" if about.kind == "run" else "what has ended"
    return f"{share if number in (0, of) else min(99.9, max(0.1, share)):g}% of {whole}"


def _in_and_out(stats: Stats) -> str:
    return f"{stats.usage.prompt_tokens:,} in, {stats.usage.completion_tokens:,} out"
