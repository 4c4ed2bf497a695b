"""What a run may use, what it has used, and what is promised to its open lines. Numbers in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mira_producer.cost.usage import Usage


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """The most of each; None: no limit."""

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: Decimal | None = None

    def hold(self, use: Usage) -> bool:
        """Is nothing over its limit?"""
        return (
            (self.max_requests is None or use.requests <= self.max_requests)
            and (self.max_tokens is None or use.tokens <= self.max_tokens)
            and (self.max_cost is None or use.cost <= self.max_cost)
        )

    def reached(self, use: Usage) -> list[str]:
        """The limits of which nothing is left, by name."""
        reached = {
            "requests": self.max_requests is not None and use.requests >= self.max_requests,
            "tokens": self.max_tokens is not None and use.tokens >= self.max_tokens,
            "cost": self.max_cost is not None and use.cost >= self.max_cost,
        }
        return [name for name, is_reached in reached.items() if is_reached]


class Budget:
    """Promises are made for a line before it is handed in, and replaced by what it used when it has ended.

    The sum of both stays within the limits, so that only a promise that was too small can carry it beyond them: then no
    line is begun any more, and the calls in flight are all that comes on top.
    """

    def __init__(self, limits: BudgetLimits, spent: Usage) -> None:
        """`spent`: what earlier runs have used of it."""
        self.limits = limits
        self.spent = spent
        self._promised: dict[int, Usage] = {}
        self._sum = Usage()

    @property
    def is_spent(self) -> bool:
        """Nothing is left of one of the limits."""
        return bool(self.limits.reached(self.spent))

    @property
    def promised(self) -> Usage:
        return self._sum

    def promise(self, line: int, use: Usage, *, alone: bool = False) -> bool:
        """False: there is no room for it now. With `alone`, a line too large may go when no other one is under way."""
        self.take_back(line)
        fits = self.limits.hold(self.spent + self._sum + use)
        if not fits and not (alone and not self._promised and not self.is_spent):
            return False
        self._promised[line] = use
        self._sum += use
        return True

    def take_back(self, line: int) -> None:
        """The line was not sent."""
        self._sum -= self._promised.pop(line, Usage())

    def settle(self, line: int, used: Usage) -> None:
        self.take_back(line)
        self.spent += used


class Forecast:
    """What answers will use, from those that have come: the API says only afterwards. All in tokens."""

    def __init__(self) -> None:
        self._answers = 0
        self._guessed = self._prompts = self._completions = 0

    @property
    def knows(self) -> bool:
        return self._answers > 0

    def learn(self, guessed_prompt: int, prompt: int, completion: int) -> None:
        self._answers += 1
        self._guessed += guessed_prompt
        self._prompts += prompt
        self._completions += completion

    def prompt(self, guessed: int) -> int:
        """A guess, corrected by how wrong the others were."""
        if not self._guessed:
            return guessed
        return -(-guessed * self._prompts // self._guessed)

    def completion(self, most: int) -> int:
        """The mean of those that came; `most` while there are none."""
        if not self._answers:
            return most
        return min(most, -(-self._completions // self._answers))
