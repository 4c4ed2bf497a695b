"""What a run counts: lines by how they ended, tokens, cost, and how fast it goes. As large after a million lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mira_producer.cost.prices import Prices, money
from mira_producer.engine.throughput import Throughput
from mira_producer.report.recorder import Recorder
from mira_producer.text import tokens_text
from mira_queue.contract.outcome import Completion, Outcome

# Names of models come from outside: beyond so many, they are counted together.
MAX_MODELS = 50
OTHER_MODELS = "other models"
NO_MODEL = "no model named"


@dataclass(slots=True)
class ModelSum:
    """What one model answered. `cost` is None where its price is not known."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None


@dataclass(slots=True)
class Used:
    """What answers of one model say that they used."""

    answers: int = 0
    uncounted: int = 0  # of these, the ones that say nothing of it
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, usage: Mapping[str, Any]) -> None:
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        self.answers += 1
        self.uncounted += not prompt + completion
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.cached_tokens += _detail(usage, "prompt_tokens_details", "cached_tokens")
        self.reasoning_tokens += _detail(usage, "completion_tokens_details", "reasoning_tokens")


@dataclass(slots=True)
class Stats:
    """Counts of one run; `before` and `failed_before` are lines that earlier runs had answered and seen fail.

    `clock` is monotonic, in seconds. A `recorder` is told of every line.
    """

    total: int
    before: int
    failed_before: int
    prices: Prices = field(default_factory=Prices)
    clock: Callable[[], float] = time.monotonic
    recorder: Recorder | None = None
    succeeded: int = 0
    failed: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    unanswered_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    #: Of those tokens, the ones that a server says it had in a cache, and that a model thought in.
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    #: Answers that say nothing of tokens.
    uncounted: int = 0
    #: In the currency of `prices`; without the answers in `unpriced`, of whose model no price is known.
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    models: dict[str, ModelSum] = field(default_factory=dict)
    began_s: float = field(init=False)
    _throughput: Throughput = field(init=False)

    def __post_init__(self) -> None:
        self.began_s = self.clock()
        self._throughput = Throughput(self.began_s)

    def add(self, outcome: Outcome, model: str = "", *, custom_id: str = "", billed: bool = True) -> None:
        """Count a line. `model` is the one asked for; the answer may name another, which stands for it where only that
        one has a price. `billed=False`: the line has the answer of another one, and cost nothing.
        """
        self._throughput.add(1, self.clock())
        used, cost = Used(), None
        if isinstance(outcome, Completion):
            self.succeeded += 1
            if billed:
                used, cost = self._add_usage(outcome, model)
        else:
            self.failed += 1
            self.codes[code_of(outcome)] += 1
        if billed:
            self.unanswered_calls += outcome.unanswered_calls
        if self.recorder is not None:
            self.recorder.ended(
                custom_id,
                outcome,
                code=code_of(outcome),
                prompt_tokens=used.prompt_tokens,
                completion_tokens=used.completion_tokens,
                cost=cost,
                billed=billed,
            )

    @property
    def done(self) -> int:
        return self.before + self.failed_before + self.succeeded + self.failed

    @property
    def is_going(self) -> bool:
        """A run that is shown goes on."""
        return True

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self.began_s

    @property
    def per_second(self) -> float:
        """Lines a second, on average."""
        return self._throughput.average(self.clock())

    @property
    def per_second_now(self) -> float:
        """Lines a second, over the last minute."""
        return self._throughput.now(self.clock())

    @property
    def seconds_left(self) -> float | None:
        """At the measured rate. None: nothing has ended yet."""
        return self._throughput.seconds_for(max(0, self.total - self.done), self.clock())

    @property
    def has_tokens(self) -> bool:
        return bool(self.prompt_tokens or self.completion_tokens or self.uncounted)

    def errors(self) -> str:
        return ", ".join(f"{count:,} {code}" for code, count in self.codes.most_common())

    def tokens_text(self) -> str:
        return tokens_text(self.prompt_tokens, self.completion_tokens, self.uncounted)

    def cost_text(self) -> str:
        """Empty without prices; says what it leaves out."""
        if not self.prices:
            return ""
        left_out = f" without {self.unpriced:,} answers that have no price" if self.unpriced else ""
        return money(self.cost, self.prices.currency) + left_out

    def add_used(self, model: str, used: Used, *other_names: str) -> Decimal | None:
        """Count what answers of a model used; returns what they cost. `other_names` stand for it where only they have a
        price. The answers themselves are counted by `add`.
        """
        self.prompt_tokens += used.prompt_tokens
        self.completion_tokens += used.completion_tokens
        self.cached_tokens += used.cached_tokens
        self.reasoning_tokens += used.reasoning_tokens
        self.uncounted += used.uncounted
        names = [model, *other_names] if used.answers > used.uncounted else []
        costs = [self.prices.cost(name, used.prompt_tokens, used.completion_tokens) for name in names]
        cost = next((cost for cost in costs if cost is not None), None)
        self.unpriced += used.answers if cost is None else used.uncounted
        self.cost += cost or 0
        entry = self._model(model)
        entry.answers += used.answers
        entry.prompt_tokens += used.prompt_tokens
        entry.completion_tokens += used.completion_tokens
        if cost is not None:
            entry.cost = (entry.cost or 0) + cost
        return cost

    def _add_usage(self, completion: Completion, model: str) -> tuple[Used, Decimal | None]:
        used = Used()
        used.add(completion.usage)
        answered_by = completion.body.get("model")
        names = [name for name in (model, answered_by) if isinstance(name, str) and name] or [NO_MODEL]
        return used, self.add_used(names[0], used, *names[1:])

    def _model(self, name: str) -> ModelSum:
        if name not in self.models and len(self.models) >= MAX_MODELS:
            name = OTHER_MODELS
        return self.models.setdefault(name[:256], ModelSum())


def code_of(outcome: Outcome) -> str:
    """How a line ended, as it is counted: `server_error (503)`, `unreachable`; empty for an answer."""
    if isinstance(outcome, Completion):
        return ""
    return f"{outcome.code} ({outcome.status})" if outcome.status else outcome.code


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    return _count(details.get(name)) if isinstance(details, Mapping) else 0


def _count(value: object) -> int:
    """What a server says of tokens may be anything; bool is an int to Python."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
