"""Count what the output and error file of a run hold already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from mira_producer.cost.budget import Use
from mira_producer.cost.prices import Prices, load_prices
from mira_producer.cost.spending import is_copy, used_before
from mira_producer.engine.stats import NO_MODEL, Tally, Used, code_of
from mira_producer.jsonl.remove_errors import complete_lines
from mira_producer.jsonl.retryable_errors import is_refused
from mira_queue.contract.batch import BatchFiles
from mira_queue.contract.outcome import Failure


def prices_of(files: BatchFiles) -> Prices:
    """Return the price table of a batch, or no prices. Raise InputError if the table cannot be used."""
    return load_prices(files.prices) if files.prices.exists() else Prices()


def empty_counts(prices: Prices) -> Tally:
    """Return counts in which no time passes."""
    return Tally(0, 0, 0, prices, clock=lambda: 0.0)


def add_answer(tally: Tally, entry: Mapping[str, Any]) -> None:
    """Count a line of an output file. A copy of another line's answer used nothing.

    The model that answered determines the price, because the requested one is not in the file.
    """
    tally.succeeded += 1
    if not is_copy(entry):
        body = (entry.get("response") or {}).get("body") or {}
        used = Used()
        used.add(body.get("usage") or {})
        tally.add_used(str(body.get("model") or NO_MODEL), used)


def add_error(tally: Tally, entry: Mapping[str, Any]) -> None:
    """Count a line of an error file."""
    tally.failed += 1
    tally.codes[error_code(entry)] += 1


def error_code(entry: Mapping[str, Any]) -> str:
    """Return the code of an error line, as the counts show it."""
    error, response = entry.get("error") or {}, entry.get("response") or {}
    return code_of(Failure(str(error.get("code")), "", response.get("status_code")))


def written(files: BatchFiles, prices: Prices) -> Tally:
    """Count all lines of both files."""
    tally = empty_counts(prices)
    for line in complete_lines(files.output):
        add_answer(tally, orjson.loads(line))
    for line in complete_lines(files.errors):
        add_error(tally, orjson.loads(line))
    return tally


def used(files: BatchFiles, prices: Prices) -> Use:
    """Return what both files say was used of a budget. Lines that will run again count when they have run."""
    entries = (orjson.loads(line) for path in (files.output, files.errors) for line in complete_lines(path))
    return sum((used_before(entry, prices) for entry in entries if not is_refused(entry)), Use())
