"""Survey of a file of requests that is not sent: its problems, size, tokens, cost, and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from mira_producer.cost.prices import Prices
from mira_producer.engine.plan import checked_lines
from mira_producer.engine.stats import MAX_MODELS, OTHER_MODELS
from mira_producer.jsonl.duplicates import Duplicates
from mira_producer.jsonl.errors import Problems, invalid_file
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import InputLine
from mira_producer.request_check import Check
from mira_producer.request_fields import WrongNames
from mira_queue.contract.pace import ConfiguredLimits, Estimate
from mira_queue.contract.problem import EMPTY_FILE, Problem
from mira_queue.contract.token_estimate import tokens_of_bytes

# Enough to see the pattern.
MAX_WARNINGS = 20


@dataclass(slots=True)
class Survey:
    """Contents of a file. Prompt tokens are estimated. Completion tokens are the most that the requests allow.

    `max_cost` is None if one of the models has no price.
    """

    lines: int = 0
    repeated: int = 0  # lines with the same request as an earlier line
    bytes: int = 0
    largest_bytes: int = 0
    largest_line: int = 0
    prompt_tokens: int = 0
    max_completion_tokens: int = 0
    models: Counter[str] = field(default_factory=Counter)
    max_cost: Decimal | None = Decimal(0)
    problems: Problems = field(default_factory=Problems)
    wrong_names: WrongNames = field(default_factory=WrongNames)

    def add(self, line: InputLine, model: str, prices: Prices) -> None:
        size = len(line.request.body)
        self.lines += 1
        self.wrong_names.add(line.number, line.unknown_fields)
        self.bytes += size
        if size > self.largest_bytes:
            self.largest_bytes, self.largest_line = size, line.number
        prompt, completion = tokens_of_bytes(size), line.max_tokens
        self.prompt_tokens += prompt
        self.max_completion_tokens += completion
        self.models[model if model in self.models or len(self.models) < MAX_MODELS else OTHER_MODELS] += 1
        cost = prices.cost(model, prompt, completion)
        self.max_cost = None if cost is None or self.max_cost is None else self.max_cost + cost


def survey(path: Path, check: Check, default_model: str, prices: Prices, found: Survey | None = None) -> Survey:
    """Read the whole file. Raises InvalidInput if it is not a file of requests, or holds none.

    A survey that is given is filled while the file is read: another thread can show how far it is.
    """
    found = found or Survey()
    with LineIndex() as index, Duplicates() as duplicates:
        for line in checked_lines(path, check, index):
            if isinstance(line, Problem):
                found.problems.add(line)
            else:
                found.add(line, line.model or default_model, prices)
                found.repeated += not duplicates.is_first(line.request.digest, line.number)
    if not found.lines + found.problems.count:
        raise invalid_file(path, "holds no requests", EMPTY_FILE)
    return found


def as_json(found: Survey, seconds: float | None, currency: str) -> Mapping[str, object]:
    """Return the survey for scripts. The cost is a string, because that is exact."""
    return {
        "valid": not found.problems.count,
        "lines": found.lines,
        "repeated": found.repeated,
        "wrong": found.problems.count,
        "bytes": found.bytes,
        "largest": {"line": found.largest_line, "bytes": found.largest_bytes},
        "models": dict(found.models.most_common()),
        "prompt_tokens": found.prompt_tokens,
        "max_completion_tokens": found.max_completion_tokens,
        "max_cost": None if not currency or found.max_cost is None else str(found.max_cost),
        "currency": currency or None,
        "seconds": seconds,
        "warnings": found.wrong_names.lines()[:MAX_WARNINGS],
        "errors": [each.to_object() for each in found.problems.first],
        "errors_left_out": found.problems.count - len(found.problems.first),
    }


def seconds_of(lines: int, configured: ConfiguredLimits, estimate: Estimate) -> tuple[float, str] | None:
    """Return the seconds that the calls take at the slowest known limit, and that limit. None if no limit is known."""
    rate, in_flight = estimate.rate, estimate.in_flight
    known = []
    if configured.rate:
        known.append((lines / configured.rate * configured.window_ms / 1000, "MIRA_RATE"))
    if rate:
        window_s = rate.retry_after_ms / 1000
        known.append((lines / rate.max_calls * window_s, f"the account's limit: {rate.max_calls:,} in {window_s:g} s"))
    if in_flight and estimate.call_ms:
        call_s = estimate.call_ms / 1000
        words = f"the account's limit: {in_flight.max_calls:,} at a time, {call_s:.1f} s each"
        known.append((lines / in_flight.max_calls * call_s, words))
    return max(known, default=None)
