"""What a run counts: lines by how they ended, tokens, cost, and how fast it goes. As large after a million lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from mira_queue.contract.outcome import Completion, Outcome
from producer.run.meter import Meter
from producer.run.prices import Prices, money
from producer.run.record import Recorder

# Names of models come from outside: beyond so many, they are counted together.
MOST_MODELS = 50
OTHER_MODELS = "other models"
NO_MODEL = "no model named"


@dataclass(slots=True)
class ModelSum:
    """What one model answered. `cost` is None where its price is not known."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Usage:
    """What one answer took; `cost` is None where it is not known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None

    @property
    def is_counted(self) -> bool:
        return bool(self.prompt_tokens or self.completion_tokens)


@dataclass(slots=True)
class Tally:
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
    #: Answers that say nothing of tokens.
    uncounted: int = 0
    #: In the currency of `prices`; without the answers in `unpriced`, of whose model no price is known.
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    models: dict[str, ModelSum] = field(default_factory=dict)
    began_s: float = field(init=False)
    _meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.began_s = self.clock()
        self._meter = Meter(self.began_s)

    def add(self, outcome: Outcome, model: str = "", *, custom_id: str = "", billed: bool = True) -> None:
        """Count a line. `model` is the one asked for; the answer may name another, which stands for it where only that
        one has a price. `billed=False`: the line has the answer of another one, and cost nothing.
        """
        self._meter.add(1, self.clock())
        used = _Usage()
        if isinstance(outcome, Completion):
            self.succeeded += 1
            if billed:
                used = self._add_usage(outcome, model)
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
                cost=used.cost,
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
        return self._meter.average(self.clock())

    @property
    def per_second_now(self) -> float:
        """Lines a second, over the last minute."""
        return self._meter.now(self.clock())

    @property
    def seconds_left(self) -> float | None:
        """At the measured rate. None: nothing has ended yet."""
        return self._meter.seconds_for(max(0, self.total - self.done), self.clock())

    @property
    def has_tokens(self) -> bool:
        return bool(self.prompt_tokens or self.completion_tokens)

    def errors(self) -> str:
        return ", ".join(f"{count:,} {code}" for code, count in self.codes.most_common())

    def tokens_text(self) -> str:
        return f"{self.prompt_tokens:,} tokens in, {self.completion_tokens:,} out"

    def cost_text(self) -> str:
        """Empty without prices; says what it leaves out."""
        if not self.prices:
            return ""
        left_out = f" without {self.unpriced:,} answers that have no price" if self.unpriced else ""
        return money(self.cost, self.prices.currency) + left_out

    def _add_usage(self, completion: Completion, model: str) -> _Usage:
        answered_by = completion.body.get("model")
        names = [name for name in (model, answered_by) if isinstance(name, str) and name]
        used = self._usage(completion, names)
        self.prompt_tokens += used.prompt_tokens
        self.completion_tokens += used.completion_tokens
        self.uncounted += not used.is_counted
        self.unpriced += used.cost is None
        self.cost += used.cost or 0
        entry = self._model(names[0] if names else NO_MODEL)
        entry.answers += 1
        entry.prompt_tokens += used.prompt_tokens
        entry.completion_tokens += used.completion_tokens
        if used.cost is not None:
            entry.cost = (entry.cost or 0) + used.cost
        return used

    def _usage(self, completion: Completion, names: list[str]) -> _Usage:
        prompt = _count(completion.usage.get("prompt_tokens"))
        answer = _count(completion.usage.get("completion_tokens"))
        if not prompt + answer:
            return _Usage()
        costs = (self.prices.cost(name, prompt, answer) for name in names)
        return _Usage(prompt, answer, next((cost for cost in costs if cost is not None), None))

    def _model(self, name: str) -> ModelSum:
        if name not in self.models and len(self.models) >= MOST_MODELS:
            name = OTHER_MODELS
        return self.models.setdefault(name[:256], ModelSum())


def code_of(outcome: Outcome) -> str:
    """How a line ended, as it is counted: `server_error (503)`, `unreachable`; empty for an answer."""
    if isinstance(outcome, Completion):
        return ""
    return f"{outcome.code} ({outcome.status})" if outcome.status else outcome.code


def _count(value: object) -> int:
    """What a server says of tokens may be anything; bool is an int to Python."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
