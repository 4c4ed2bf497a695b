"""Everything the simulator can be told: name, default, unit, meaning. Changed live by `POST /sim/config`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mira_queue.simulator.faults import parse_kind

MIRA_MODELS = ("mira", "mira-thinking", "mira-pro", "mira-max")

# What the limits of Mira were observed to be: 60 requests in any 60 s, and 3 in flight, for each account.
MIRA_RATE = 60
MIRA_WINDOW_S = 60.0
MIRA_CONCURRENCY = 3
MIRA_CONCURRENCY_RETRY_AFTER_S = 5.0

RetryAfterForm = Literal["auto", "integer", "fraction", "date", "missing", "absurd", "negative"]
OutageKind = Literal["503", "drop", "refuse"]


def _span(value: Any) -> Any:
    """`0.2`, "0.2", "1-3" and [1, 3] are all ways to write a latency."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return value


def _fault_kind(value: Any) -> Any:
    if isinstance(value, str | int):
        parse_kind(str(value))
        return str(value)
    return value


FaultKind = Annotated[str, BeforeValidator(_fault_kind)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Outage(BaseModel):
    """A time in which nobody is served. `after_s` counts from the start, a reset, or a change of the outages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_s: Seconds = 0.0
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    kind: OutageKind = "503"


class SimulatorConfig(BaseModel):
    """One Mira. Without limits unless told so; `SimulatorConfig.mira()` has those that were observed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(MIRA_MODELS, description="Models that exist; any other is answered 400.")
    keys: tuple[str, ...] | None = Field(None, description="Keys that are accepted; none given: any key is.")
    plans: dict[str, tuple[str, ...]] = Field(
        {"max": MIRA_MODELS}, description="Models that each plan has; others are answered 403."
    )
    plan: str = Field("max", description="Plan of the accounts that key_plans does not name.")
    key_plans: dict[str, str] = Field({}, description="Plan of single keys.")

    rate: int | None = Field(None, ge=1, description="Requests an account may make in any window; refused ones count.")
    rate_window_s: float = Field(MIRA_WINDOW_S, gt=0, allow_inf_nan=False, description="The window, seconds.")
    rate_retry_after_s: Seconds | None = Field(None, description="Retry-After of the rate; unset: the whole window.")
    concurrency: int | None = Field(None, ge=0, description="Requests an account may have in flight.")
    concurrency_retry_after_s: Seconds = Field(MIRA_CONCURRENCY_RETRY_AFTER_S, description="Its Retry-After, seconds.")
    quota: int | None = Field(None, ge=0, description="Requests an account may make a day.")
    quota_retry_after_s: Seconds = Field(3600.0, description="Its Retry-After, seconds.")
    day_s: float = Field(86_400.0, gt=0, description="Length of a day, seconds; days turn at multiples of it.")
    balance_calls: int | None = Field(None, ge=0, description="Answers an account has paid for; then 402.")
    balance_tokens: int | None = Field(None, ge=0, description="Tokens an account has paid for; then 402.")
    retry_after_form: RetryAfterForm = Field(
        "auto", description="How Retry-After is written; auto: whole if it is whole."
    )
    early_grace_s: Seconds = Field(
        0.1,
        description="Calls that arrive so soon after a 429 were on their way: not counted as early, but as crossed.",
    )

    capacity: int | None = Field(None, ge=0, description="Calls the server works on at once, all accounts together.")
    queue_size: int = Field(0, ge=0, description="Calls that may wait for it; one more is refused as busy.")
    queue_wait_s: Seconds = Field(60.0, description="Longest wait there, seconds; then refused as busy.")
    busy_retry_after_s: Seconds = Field(10.0, description="Retry-After of busy, seconds.")

    latency_s: Annotated[tuple[Seconds, Seconds], BeforeValidator(_span)] = Field(
        (0.0, 0.0), description="Time to an answer, seconds: one number, or least and most."
    )
    answer_timeout_s: float | None = Field(
        30.0, gt=0, description="Non-streaming answers that take longer become a 408."
    )
    faults: dict[FaultKind, Probability] = Field({}, description="Probability of each kind of fault, 0 to 1.")
    outages: tuple[Outage, ...] = Field((), description="Times in which nobody is served.")
    moderation_words: tuple[str, ...] = Field((), description="Content with one of these is blocked (422).")
    content_parts: bool = Field(False, description="Accept content as OpenAI parts, which Mira does not document.")
    api_version: Literal["current", "deprecated", "retired"] = Field(
        "current", description="deprecated: answers carry Deprecation and Sunset; retired: 410."
    )
    redirect_to: str = Field("127.0.0.1:9", description="host:port that the fault redirect names.")
    huge_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Size of the body of the fault huge, bytes.")
    drip_interval_s: float = Field(0.05, gt=0, description="Time between two bytes of the fault drip, seconds.")

    hints_late_s: float = Field(
        0.7, ge=0, description="Time from the interim responses of the fault earlyhints to the final one, seconds."
    )
    seed: int = Field(0, description="Seed of latencies and faults.")
    count_requests: bool = Field(True, description="Count calls per request; off for loads of millions.")
    log_calls: bool = Field(False, description="Keep when each call came, went and what became of it; for benches.")

    @classmethod
    def mira(cls, scale: float = 1.0, **changes: Any) -> Self:
        """With the limits of Mira, windows and Retry-Afters multiplied by `scale` (0.1: 60 requests in 6 s)."""
        return cls.model_validate(mira_limits(scale) | changes)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.latency_s[0] > self.latency_s[1]:
            raise ValueError("latency_s: the least is more than the most")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("faults: the probabilities add up to more than 1")
        for plan in (self.plan, *self.key_plans.values()):
            if plan not in self.plans:
                raise ValueError(f"plan {plan!r} is not among plans ({', '.join(self.plans) or 'none'})")
        return self

    def changed(self, changes: dict[str, Any]) -> SimulatorConfig:
        """A copy with `changes`, validated as a whole (pydantic's ValidationError)."""
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)

    def may_use(self, key: str, model: str) -> bool:
        return model in self.plans[self.key_plans.get(key, self.plan)]


def mira_limits(scale: float = 1.0) -> dict[str, Any]:
    """The observed limits as settings."""
    return {
        "rate": MIRA_RATE,
        "rate_window_s": MIRA_WINDOW_S * scale,
        "concurrency": MIRA_CONCURRENCY,
        "concurrency_retry_after_s": MIRA_CONCURRENCY_RETRY_AFTER_S * scale,
    }
