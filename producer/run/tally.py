"""What a run counts, and how it says it in the end."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from mira_queue.contract.outcome import Completion, Outcome


@dataclass(slots=True)
class Tally:
    """Counts of one run; `before` and `failed_before` are lines that earlier runs had answered and seen fail."""

    total: int
    before: int
    failed_before: int
    succeeded: int = 0
    failed: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    unanswered_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    began_s: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        self.unanswered_calls += outcome.unanswered_calls
        if isinstance(outcome, Completion):
            self.succeeded += 1
            self.prompt_tokens += _count(outcome.usage.get("prompt_tokens"))
            self.completion_tokens += _count(outcome.usage.get("completion_tokens"))
        else:
            self.failed += 1
            self.codes[f"{outcome.code} ({outcome.status})" if outcome.status else outcome.code] += 1

    @property
    def done(self) -> int:
        return self.before + self.failed_before + self.succeeded + self.failed

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began_s

    @property
    def per_second(self) -> float:
        return (self.succeeded + self.failed) / max(self.elapsed_s, 1e-9)

    def errors(self) -> str:
        return ", ".join(f"{count:,} {code}" for code, count in self.codes.most_common())


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
