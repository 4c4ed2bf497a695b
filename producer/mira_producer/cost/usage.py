"""Usage of API calls, as one value, and how it is read from responses and from lines of earlier runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from mira_producer.cost.prices import Prices, money
from mira_producer.jsonl.result_line import calls_of_line, part_of
from mira_producer.text import plural
from mira_queue.contract.token_estimate import count


@dataclass(frozen=True, slots=True)
class Usage:
    """A sum over calls. `cost` is in the currency of the price table; `answers` counts completions."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    cached_tokens: int = 0  # part of the prompt tokens
    reasoning_tokens: int = 0  # part of the completion tokens
    answers: int = 0
    uncounted: int = 0  # answers that report no tokens, as streamed ones do
    unpriced: int = 0  # answers that are not in the cost

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def has_tokens(self) -> bool:
        """Return True if there is an answer, even one that reports no tokens."""
        return bool(self.tokens or self.uncounted)

    def reported(self) -> dict[str, int]:
        """Return the tokens in the form of a response's usage; empty if there are none."""
        tokens = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return tokens if self.tokens else {}

    def tokens_text(self) -> str:
        left_out = f" ({plural(self.uncounted, 'answer')} not counted)" if self.uncounted else ""
        return f"{self.prompt_tokens:,} tokens in, {self.completion_tokens:,} out{left_out}"

    def cost_text(self, currency: str) -> str:
        """Return the cost, and which answers it does not include; empty without prices, which have the currency."""
        left_out = f" without {self.unpriced:,} answers that have no price" if self.unpriced else ""
        return money(self.cost, currency) + left_out if currency else ""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(mine - theirs for mine, theirs in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self.__slots__)

    def priced(self, prices: Prices, *models: str) -> Usage:
        """Return this usage with its cost, at the price of the first of these models that has one."""
        costs = (prices.cost(model, self.prompt_tokens, self.completion_tokens) for model in models)
        cost = next((cost for cost in costs if cost is not None), None) if self.tokens else None
        if cost is None:
            return replace(self, unpriced=self.answers)
        return replace(self, cost=cost, unpriced=self.uncounted)


def usage_of_answer(reported: Mapping[str, Any], requests: int = 1) -> Usage:
    """Return the usage of one completion from the `usage` of its response, which may hold anything."""
    prompt, completion = count(reported.get("prompt_tokens")), count(reported.get("completion_tokens"))
    return Usage(
        requests,
        prompt,
        completion,
        cached_tokens=count(part_of(reported, "prompt_tokens_details").get("cached_tokens")),
        reasoning_tokens=count(part_of(reported, "completion_tokens_details").get("reasoning_tokens")),
        answers=1,
        uncounted=int(not prompt + completion),
    )


def lost_usage(reported: Mapping[str, Any]) -> Usage:
    """Return the usage of responses that were paid for and could not be used."""
    return Usage(0, count(reported.get("prompt_tokens")), count(reported.get("completion_tokens")))


def usage_of_line(entry: Mapping[str, Any], prices: Prices) -> Usage:
    """Return what a line of an output or error file used of a budget.

    Its price is that of the model that answered, or the highest one if that model has no price.
    """
    calls = calls_of_line(entry)
    body = part_of(entry, "response", "body")
    reported, lost = body.get("usage"), lost_usage(part_of(entry, "mira", "lost_usage"))
    usage = Usage(calls) + lost
    # The usage in the response of an error is a part of what was lost.
    if calls and isinstance(reported, dict) and not entry.get("error"):
        usage = usage_of_answer(reported, calls) + lost
    if not usage.answers and not usage.tokens:
        return usage
    model = str(body.get("model"))
    models = [model] if model in prices.models else prices.models
    return max((usage.priced(prices, each) for each in models), key=lambda each: each.cost, default=usage)
