"""Budget of a run: its limits, what it has used, and what is promised to its open lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from mira_producer.cost.usage import Usage


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Limits of a run's usage. None means no limit."""

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: Decimal | None = None

    def allow(self, usage: Usage) -> bool:
        """Return True if no limit is exceeded."""
        return all(used <= limit for _, limit, used in self._pairs(usage))

    def reached(self, usage: Usage) -> list[str]:
        """Return the names of the limits of which nothing is left."""
        return [name for name, limit, used in self._pairs(usage) if used >= limit]

    def _pairs(self, usage: Usage) -> Iterator[tuple[str, int | Decimal, int | Decimal]]:
        """Yield (name, limit, used) of every limit."""
        if self.max_requests is not None:
            yield "requests", self.max_requests, usage.requests
        if self.max_tokens is not None:
            yield "tokens", self.max_tokens, usage.tokens
        if self.max_cost is not None:
            yield "cost", self.max_cost, usage.cost


class Budget:
    """Used and promised parts. A line that is sent gets a promise, which its usage replaces when it finishes.

    The sum of both stays within the limits. Only a promise that was too small can lead to an excess. Then no line is
    sent any more, and the excess is at most that of the calls in flight.
    """

    def __init__(self, limits: BudgetLimits, spent: Usage) -> None:
        """`spent` is what earlier runs used."""
        self.limits = limits
        self.spent = spent
        self._promised: dict[int, Usage] = {}
        self.promised = Usage()

    @property
    def is_spent(self) -> bool:
        """Return True if nothing is left of one of the limits."""
        return bool(self.limits.reached(self.spent))

    def promise(self, line: int, usage: Usage, *, alone: bool = False) -> bool:
        """Return False if there is no room now. With `alone`, a line that is too large may go if no other is open."""
        self.take_back(line)
        fits = self.limits.allow(self.spent + self.promised + usage)
        if not fits and not (alone and not self._promised and not self.is_spent):
            return False
        self._promised[line] = usage
        self.promised += usage
        return True

    def take_back(self, line: int) -> None:
        """Release the promise of a line that was not sent."""
        self.promised -= self._promised.pop(line, Usage())

    def settle(self, line: int, used: Usage) -> None:
        self.take_back(line)
        self.spent += used


class Forecast:
    """Forecast of the tokens of an answer, from the answers so far. The API reports tokens only afterward."""

    def __init__(self) -> None:
        self._answers = 0
        self._estimated = self._prompts = self._completions = 0

    @property
    def knows(self) -> bool:
        return self._answers > 0

    def learn(self, estimated_prompt: int, prompt: int, completion: int) -> None:
        self._answers += 1
        self._estimated += estimated_prompt
        self._prompts += prompt
        self._completions += completion

    def prompt(self, estimated: int) -> int:
        """Return an estimate, corrected by the error of the estimates so far."""
        if not self._estimated:
            return estimated
        return -(-estimated * self._prompts // self._estimated)

    def completion(self, maximum: int) -> int:
        """Return the mean of the answers so far, at most `maximum`, or `maximum` before the first one."""
        if not self._answers:
            return maximum
        return min(maximum, -(-self._completions // self._answers))
