"""A run's lines and outcomes as what they use of its budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mira_producer.cost import estimate
from mira_producer.cost.budget import Budget, Forecast, Use
from mira_producer.cost.prices import Prices, money
from mira_producer.jsonl.request_line import InputLine, OpenLine
from mira_queue.contract.batch import CANCELLED_CODE, EXPIRED_CODE
from mira_queue.contract.errors import JobCancelled
from mira_queue.contract.outcome import Completion, Outcome, token_count

# Ids of lines that have the answer of another line, as `Answers` writes them.
_COPY = re.compile(r"batch_req_[0-9a-f-]{36}-\d+")
# Errors of lines that were never sent.
_NEVER_SENT = frozenset({EXPIRED_CODE, CANCELLED_CODE, JobCancelled.code})


class Spending:
    """Every model of the run has a price, where the budget limits the cost."""

    def __init__(self, budget: Budget, prices: Prices) -> None:
        self._budget = budget
        self._prices = prices
        self._forecast = Forecast()

    @property
    def is_spent(self) -> bool:
        return self._budget.is_spent

    def promise(self, line: InputLine, model: str) -> bool:
        """Is there room for this line now? Before anything is known, one may go alone, to find out."""
        guess = self._guess(
            estimate.tokens_of_bytes(len(line.request.body)), estimate.most_completion_tokens(line), model
        )
        return self._budget.promise(line.number, guess, alone=not self._forecast.knows)

    def take_back(self, line: OpenLine) -> None:
        self._budget.take_back(line.number)

    def settle(self, line: OpenLine, outcome: Outcome) -> None:
        """Calls that may have been billed, though their answer was lost, count as if they had been."""
        guessed = estimate.tokens_of_bytes(line.size)
        used = Use(requests=calls_of(outcome))
        if isinstance(outcome, Completion):
            prompt, completion = tokens_of(outcome.usage)
            if not prompt + completion:
                prompt, completion = guessed, estimate.tokens_of_bytes(len(outcome.text.encode()))
            self._forecast.learn(guessed, prompt, completion)
            used += self._tokens(prompt, completion, line.model)
        lost = self._guess(guessed, estimate.DEFAULT_MAX_TOKENS, line.model)
        for _ in range(outcome.unanswered_calls):
            used += Use(0, lost.tokens, lost.cost)
        self._budget.settle(line.number, used)

    def words(self) -> str:
        """How much is used of each limit, and which of them stops the run."""
        limits, spent = self._budget.limits, self._budget.spent
        parts = []
        if limits.max_requests is not None:
            parts.append(f"{spent.requests:,} of {limits.max_requests:,} requests")
        if limits.max_tokens is not None:
            parts.append(f"{spent.tokens:,} of {limits.max_tokens:,} tokens")
        if limits.max_cost is not None:
            currency = self._prices.currency
            parts.append(f"{money(spent.cost, currency)} of {money(limits.max_cost, currency)}")
        end = "used up" if self.is_spent else "too small for the next line"
        return f"the budget is {end}: {', '.join(parts)}"

    def _guess(self, prompt: int, most_completion: int, model: str) -> Use:
        prompt, completion = self._forecast.prompt(prompt), self._forecast.completion(most_completion)
        return Use(1, 0) + self._tokens(prompt, completion, model)

    def _tokens(self, prompt: int, completion: int, model: str) -> Use:
        return Use(0, prompt + completion, self._prices.cost(model, prompt, completion) or Decimal(0))


def calls_of(outcome: Outcome) -> int:
    """Calls made for a line, without those that a limit turned away."""
    lost = outcome.unanswered_calls
    return max(1, outcome.attempts, lost + 1 if isinstance(outcome, Completion) else lost)


def tokens_of(usage: Mapping[str, Any]) -> tuple[int, int]:
    """(in, out); what a server says there may be anything."""
    return token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))


def is_copy(entry: Mapping[str, Any]) -> bool:
    """Whether a line has the answer of another one, which asked the same."""
    return _COPY.fullmatch(str(entry.get("id"))) is not None


def used_before(entry: Mapping[str, Any], prices: Prices) -> Use:
    """What a line of an earlier run's output or error file says that it used.

    Its price is that of the model that answered, or, where that has none, the highest one.
    """
    error, response = entry.get("error"), entry.get("response")
    code = error.get("code") if isinstance(error, dict) else None
    if is_copy(entry) or code in _NEVER_SENT:
        return Use()
    body = response.get("body") if isinstance(response, dict) else None
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(usage, dict):
        return Use(requests=1)
    prompt, completion = tokens_of(usage)
    cost = prices.cost(str(body.get("model")), prompt, completion)
    if cost is None:
        costs = [prices.cost(model, prompt, completion) for model in prices.models]
        cost = max((each for each in costs if each is not None), default=Decimal(0))
    return Use(1, prompt + completion, cost)
