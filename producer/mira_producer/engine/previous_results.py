"""Count what the output and error file of a run hold already."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from mira_producer.cost.prices import Prices, load_prices
from mira_producer.cost.usage import Usage, lost_usage, usage_of_answer, usage_of_line
from mira_producer.engine.stats import NO_MODEL, OTHER_MODELS, Stats, code_of
from mira_producer.jsonl.remove_errors import complete_lines
from mira_producer.jsonl.result_line import calls_of_line, is_retryable, part_of
from mira_queue.contract.batch import BatchFiles
from mira_queue.contract.outcome import Failure

# Names of models come from files: models beyond this number are counted together, and have no price.
MAX_NAMES = 1000


def prices_of(files: BatchFiles) -> Prices:
    """Return the price table of a batch, or no prices. Raise InputError if the table cannot be used."""
    return load_prices(files.prices) if files.prices.exists() else Prices()


class Written:
    """Counts lines of result files. The model that answered determines the price: the requested one is not there."""

    def __init__(self, prices: Prices) -> None:
        # No time passes in these statistics.
        self._stats = Stats(0, 0, 0, prices, clock=lambda: 0.0)
        self._usage: dict[str, Usage] = {}

    def add_answer(self, entry: Mapping[str, Any]) -> None:
        """Count a line of an output file. A line that shares the answer of another one used nothing."""
        self._stats.succeeded += 1
        if calls := calls_of_line(entry):
            body = part_of(entry, "response", "body")
            model = str(body.get("model") or NO_MODEL)
            model = model if model in self._usage or len(self._usage) < MAX_NAMES else OTHER_MODELS
            lost = lost_usage(part_of(entry, "mira", "lost_usage"))
            answer = usage_of_answer(part_of(body, "usage"), calls)
            self._usage[model] = self._usage.get(model, Usage()) + answer + lost

    def add_error(self, entry: Mapping[str, Any]) -> None:
        """Count a line of an error file."""
        self._stats.failed += 1
        self._stats.codes[error_code(entry)] += 1
        lost = lost_usage(part_of(entry, "mira", "lost_usage"))
        if lost.tokens:
            self._usage[NO_MODEL] = self._usage.get(NO_MODEL, Usage()) + lost

    def stats(self) -> Stats:
        """Return the statistics. Call it once, at the end."""
        for model, usage in self._usage.items():
            self._stats.add_usage(usage.priced(self._stats.prices, model), model)
        return self._stats


def error_code(entry: Mapping[str, Any]) -> str:
    """Return the code of an error line, as the counts show it."""
    code, status = part_of(entry, "error").get("code"), part_of(entry, "response").get("status_code")
    return code_of(Failure(str(code), "", status))


def written(files: BatchFiles, prices: Prices) -> Stats:
    """Count all lines of both files."""
    counts = Written(prices)
    for line in complete_lines(files.output):
        counts.add_answer(orjson.loads(line))
    for line in complete_lines(files.errors):
        counts.add_error(orjson.loads(line))
    return counts.stats()


def used(files: BatchFiles, prices: Prices) -> Usage:
    """Return what the files say was used of a budget. Lines that will run again count when they have run."""
    entries = (orjson.loads(line) for path in (files.output, files.errors) for line in complete_lines(path))
    of_lines = (usage_of_line(entry, prices) for entry in entries if not is_retryable(entry))
    return sum(of_lines, used_by_replaced(files, prices))


def replaced_answers(files: BatchFiles) -> Path:
    """Return the path of the answers that were removed because their lines have changed."""
    return files.output.with_name(f"{files.output.name}.replaced")


def used_by_replaced(files: BatchFiles, prices: Prices) -> Usage:
    """Return what answers that were removed used of a budget. A run killed before the removal left them in both files.

    Then they count twice, which only ends a budget early.
    """
    usage = Usage()
    for line in complete_lines(replaced_answers(files)):
        # The file is the user's to edit: what is no answer has used nothing.
        with suppress(ValueError):
            entry = orjson.loads(line)
            usage += usage_of_line(entry, prices) if isinstance(entry, dict) else Usage()
    return usage
