"""Statistics of a run: lines by outcome, tokens, cost, and throughput. They do not grow with the number of lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mira_producer.cost.prices import Prices
from mira_producer.cost.usage import Usage, lost_usage, usage_of_answer
from mira_producer.engine.throughput import Throughput
from mira_producer.jsonl.result_line import calls_of
from mira_producer.report.recorder import Recorder
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.ledger.records import LostCalls

# The names of models come from files and servers. Models beyond this number are counted together.
MAX_MODELS = 50
OTHER_MODELS = "other models"
NO_MODEL = "no model named"


@dataclass(slots=True)
class Stats:
    """Statistics of one run. `before` and `failed_before` count the answers and errors that earlier runs wrote.

    `withdrawn` is the part of `usage` that no line has. `clock` is monotonic, in seconds. The `recorder`, if there is
    one, gets every line.
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
    usage: Usage = field(default_factory=Usage)
    withdrawn: Usage = field(default_factory=Usage)
    models: dict[str, Usage] = field(default_factory=dict)
    began_s: float = field(init=False)
    _throughput: Throughput = field(init=False)

    def __post_init__(self) -> None:
        self.began_s = self.clock()
        self._throughput = Throughput(self.began_s)

    def add(
        self, outcome: Outcome, model: str = "", *, custom_id: str = "", billed: bool = True, number: int = 0
    ) -> None:
        """Count a line. `model` is the requested one; the price is that of the answering model if only that has one.

        With `billed=False`, the line has the outcome of another line, and used nothing.
        """
        self._throughput.add(1, self.clock())
        usage = Usage()
        if isinstance(outcome, Completion):
            self.succeeded += 1
            if billed:
                answered_by = outcome.body.get("model")
                names = [name for name in (model, answered_by) if isinstance(name, str) and name] or [NO_MODEL]
                usage = usage_of_answer(outcome.usage, calls_of(outcome)).priced(self.prices, *names)
                usage += lost_usage(outcome.lost_usage).priced(self.prices, *names)
                self.add_usage(usage, names[0])
        else:
            self.failed += 1
            self.codes[code_of(outcome)] += 1
            if billed and outcome.lost_usage:
                usage = lost_usage(outcome.lost_usage).priced(self.prices, model)
                self.add_usage(usage, model or NO_MODEL)
        if billed:
            self.unanswered_calls += outcome.unanswered_calls
        if self.recorder is not None:
            code = code_of(outcome)
            self.recorder.ended(custom_id, outcome, code=code, usage=usage, billed=billed, number=number)

    def add_lost(self, lost: LostCalls, model: str) -> None:
        """Count what the job of a line that stays pending has cost."""
        self.unanswered_calls += lost.calls
        if lost.usage:
            usage = lost_usage(lost.usage).priced(self.prices, model)
            self.withdrawn += usage
            self.add_usage(usage, model or NO_MODEL)

    def add_usage(self, usage: Usage, model: str) -> None:
        """Count the usage of answers of a model."""
        self.usage += usage
        model = model[:256] if model in self.models or len(self.models) < MAX_MODELS else OTHER_MODELS
        self.models[model] = self.models.get(model, Usage()) + usage

    @property
    def done(self) -> int:
        return self.before + self.failed_before + self.succeeded + self.failed

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self.began_s

    @property
    def per_second(self) -> float:
        """Return the average throughput, in lines per second."""
        return self._throughput.average(self.clock())

    @property
    def per_second_now(self) -> float:
        """Return the throughput of the last minute, in lines per second."""
        return self._throughput.now(self.clock())

    @property
    def seconds_left(self) -> float | None:
        """Return the estimated time left, or None if no line has finished yet."""
        return self._throughput.seconds_for(max(0, self.total - self.done), self.clock())

    def errors(self) -> str:
        return ", ".join(f"{count:,} {code}" for code, count in self.codes.most_common())


def code_of(outcome: Outcome) -> str:
    """Return the code and status of an error, as it is counted: `server_error (503)`, `unreachable`; else empty."""
    if isinstance(outcome, Completion):
        return ""
    return f"{outcome.code} ({outcome.status})" if outcome.status else outcome.code
