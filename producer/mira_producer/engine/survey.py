"""A file of requests, looked through and not sent: what is wrong with it, and what it would take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from mira_producer.cost import estimate
from mira_producer.cost.prices import Prices
from mira_producer.engine.plan import Check, checked_lines
from mira_producer.jsonl.duplicates import Twins
from mira_producer.jsonl.errors import Problems, invalid_file
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import InputLine
from mira_queue.contract.problem import EMPTY_FILE, Problem

# Names of models come out of the file: beyond so many, they are counted together.
MOST_MODELS = 50
OTHER_MODELS = "other models"


@dataclass(slots=True)
class Survey:
    """What was found. Tokens are guesses: of the answers, what the requests allow at most.

    `most_cost` is None without a price for one of the models.
    """

    lines: int = 0
    repeated: int = 0  # of these, the ones that ask what another has asked
    bytes: int = 0
    largest_bytes: int = 0
    largest_line: int = 0
    prompt_tokens: int = 0
    most_completion_tokens: int = 0
    models: Counter[str] = field(default_factory=Counter)
    most_cost: Decimal | None = Decimal(0)
    problems: Problems = field(default_factory=Problems)

    def add(self, line: InputLine, model: str, prices: Prices) -> None:
        size = len(line.request.body)
        self.lines += 1
        self.bytes += size
        if size > self.largest_bytes:
            self.largest_bytes, self.largest_line = size, line.number
        prompt, completion = estimate.tokens_of_bytes(size), estimate.most_completion_tokens(line)
        self.prompt_tokens += prompt
        self.most_completion_tokens += completion
        self.models[model if model in self.models or len(self.models) < MOST_MODELS else OTHER_MODELS] += 1
        cost = prices.cost(model, prompt, completion)
        self.most_cost = None if cost is None or self.most_cost is None else self.most_cost + cost


def survey(path: Path, check: Check, default_model: str, prices: Prices) -> Survey:
    """Read the whole file. Raises InvalidInput where it is none of requests, or holds none."""
    found = Survey()
    with LineIndex() as index, Twins() as twins:
        for line in checked_lines(path, check, index):
            if isinstance(line, Problem):
                found.problems.add(line)
            else:
                found.add(line, line.model or default_model, prices)
                found.repeated += not twins.is_first(line.request.digest, line.number)
    if not found.lines + found.problems.count:
        raise invalid_file(path, "holds no requests", EMPTY_FILE)
    return found


def as_json(found: Survey, seconds: float | None, currency: str) -> Mapping[str, object]:
    """For scripts. Money is a string: it is exact."""
    return {
        "valid": not found.problems.count,
        "lines": found.lines,
        "repeated": found.repeated,
        "wrong": found.problems.count,
        "bytes": found.bytes,
        "largest": {"line": found.largest_line, "bytes": found.largest_bytes},
        "models": dict(found.models.most_common()),
        "prompt_tokens": found.prompt_tokens,
        "most_completion_tokens": found.most_completion_tokens,
        "most_cost": None if not currency or found.most_cost is None else str(found.most_cost),
        "currency": currency or None,
        "seconds": seconds,
        "errors": [each.to_object() for each in found.problems.first],
        "errors_left_out": found.problems.count - len(found.problems.first),
    }
