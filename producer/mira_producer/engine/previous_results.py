"""Count what the output and error file of a run hold already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from mira_producer.cost.prices import Prices, load_prices
from mira_producer.cost.usage import Usage, usage_of_answer, usage_of_line
from mira_producer.engine.stats import NO_MODEL, Stats, code_of
from mira_producer.jsonl.remove_errors import complete_lines
from mira_producer.jsonl.result_line import calls_of_line, is_retryable
from mira_queue.contract.batch import BatchFiles
from mira_queue.contract.outcome import Failure


def prices_of(files: BatchFiles) -> Prices:
    """Return the price table of a batch, or no prices. Raise InputError if the table cannot be used."""
    return load_prices(files.prices) if files.prices.exists() else Prices()


def empty_stats(prices: Prices) -> Stats:
    """Return statistics in which no time passes."""
    return Stats(0, 0, 0, prices, clock=lambda: 0.0)


def add_answer(stats: Stats, entry: Mapping[str, Any]) -> None:
    """Count a line of an output file. A line that shares the answer of another one used nothing.

    The model that answered determines the price, because the requested one is not in the file.
    """
    stats.succeeded += 1
    if calls := calls_of_line(entry):
        body = (entry.get("response") or {}).get("body") or {}
        model = str(body.get("model") or NO_MODEL)
        stats.add_usage(usage_of_answer(body.get("usage") or {}, calls).priced(stats.prices, model), model)


def add_error(stats: Stats, entry: Mapping[str, Any]) -> None:
    """Count a line of an error file."""
    stats.failed += 1
    stats.codes[error_code(entry)] += 1


def error_code(entry: Mapping[str, Any]) -> str:
    """Return the code of an error line, as the counts show it."""
    error, response = entry.get("error") or {}, entry.get("response") or {}
    return code_of(Failure(str(error.get("code")), "", response.get("status_code")))


def written(files: BatchFiles, prices: Prices) -> Stats:
    """Count all lines of both files."""
    stats = empty_stats(prices)
    for line in complete_lines(files.output):
        add_answer(stats, orjson.loads(line))
    for line in complete_lines(files.errors):
        add_error(stats, orjson.loads(line))
    return stats


def used(files: BatchFiles, prices: Prices) -> Usage:
    """Return what both files say was used of a budget. Lines that will run again count when they have run."""
    entries = (orjson.loads(line) for path in (files.output, files.errors) for line in complete_lines(path))
    return sum((usage_of_line(entry, prices) for entry in entries if not is_retryable(entry)), Usage())
