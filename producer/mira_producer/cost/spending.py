"""Lines and outcomes of a run as what they use of its budget."""

from __future__ import annotations

from mira_producer.cost.budget import Budget, Forecast
from mira_producer.cost.prices import Prices, money
from mira_producer.cost.usage import Usage, lost_usage, usage_of_answer
from mira_producer.jsonl.request_line import InputLine, OpenLine
from mira_producer.jsonl.result_line import calls_of
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.token_estimate import DEFAULT_MAX_TOKENS, tokens_of_bytes
from mira_queue.ledger.records import LostCalls


class Spending:
    """The budget of one run. If the budget limits the cost, every model of the run has a price."""

    def __init__(self, budget: Budget, prices: Prices) -> None:
        self._budget = budget
        self._prices = prices
        self._forecast = Forecast()

    @property
    def is_spent(self) -> bool:
        return self._budget.is_spent

    def promise(self, line: InputLine, model: str) -> bool:
        """Return True if there is room for this line now. Before the first answer, one line may go alone."""
        estimate = self._estimate(len(line.request.body), line.max_tokens, model)
        return self._budget.promise(line.number, estimate, alone=not self._forecast.knows)

    def take_back(self, line: OpenLine) -> None:
        self._budget.take_back(line.number)

    def add_lost(self, line: OpenLine, lost: LostCalls) -> None:
        """Count what the job of a line that stays pending has cost."""
        used = lost_usage(lost.usage).priced(self._prices, line.model)
        self._budget.spent += used + self._unanswered(line, lost.calls)

    def settle(self, line: OpenLine, outcome: Outcome) -> None:
        """Count a finished line. A call whose answer was lost may have been billed, and counts as if it was."""
        estimated = tokens_of_bytes(line.size)
        used = Usage(calls_of(outcome))
        if isinstance(outcome, Completion):
            answer = usage_of_answer(outcome.usage, 0)
            if answer.uncounted:
                answer = Usage(0, estimated, tokens_of_bytes(len(outcome.text.encode())))
            self._forecast.learn(estimated, answer.prompt_tokens, answer.completion_tokens)
            used += answer.priced(self._prices, line.model)
        used += lost_usage(outcome.lost_usage).priced(self._prices, line.model)
        self._budget.settle(line.number, used + self._unanswered(line, outcome.unanswered_calls))

    def words(self) -> str:
        """Return how much of each limit is used, and which of them stops the run."""
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

    def _unanswered(self, line: OpenLine, calls: int) -> Usage:
        """Return the estimate of calls whose answer was lost."""
        return sum(
            (self._estimate(line.size, DEFAULT_MAX_TOKENS, line.model, requests=0) for _ in range(calls)), Usage()
        )

    def _estimate(self, size: int, max_completion: int, model: str, requests: int = 1) -> Usage:
        prompt = self._forecast.prompt(tokens_of_bytes(size))
        return Usage(requests, prompt, self._forecast.completion(max_completion)).priced(self._prices, model)
