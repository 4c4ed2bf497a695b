"""Configuration of the simulator: name, default, unit and meaning of each setting. `POST /sim/config` changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mira_queue.simulator.faults import parse_kind

MIRA_MODELS = ("mira", "mira-thinking", "mira-pro", "mira-max")

RetryAfterForm = Literal["auto", "integer", "fraction", "date", "missing", "absurd", "negative"]
OutageKind = Literal["500", "503", "drop", "refuse"]


def _parse_range(value: Any) -> Any:
    """Accept a latency as `0.2`, "0.2", "1-3" or [1, 3]."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return value


def _check_kind(name: str) -> str:
    parse_kind(name)
    return name


def _parse_faults(value: Any) -> Any:
    """Accept {"503": 0.01} or ["503=0.01"]."""
    if not isinstance(value, list):
        return value
    pairs = [str(each).partition("=") for each in value]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("expected KIND=PROBABILITY, such as 503=0.01")
    return {kind: probability for kind, _, probability in pairs}


FaultKind = Annotated[str, AfterValidator(_check_kind)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Outage(BaseModel):
    """Time without service. `after_s` counts from the start, from a reset, or from a change of the outages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_s: Seconds = 0.0
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    kind: OutageKind = "503"

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        """Accept "10:5:drop" too."""
        if not isinstance(value, str):
            return value
        parts = value.split(":")
        if len(parts) != 3:
            raise ValueError("expected AFTER:SECONDS:KIND, such as 10:5:drop")
        return dict(zip(("after_s", "seconds", "kind"), parts, strict=True))


class SimulatorConfig(BaseModel):
    """Settings of one simulated API. By default it has no limits; see `mira_limits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = Field(MIRA_MODELS, description="a model to serve; others get a 400 (default: Mira's)")
    keys: tuple[str, ...] | None = Field(None, description="a key to accept; others get a 401 (default: any key)")
    plans: dict[str, tuple[str, ...]] | None = Field(
        None, description="models of each plan; others get a 403 (default: every plan has every model)"
    )
    plan: str = Field("max", description="plan of the accounts that key_plans does not name")
    key_plans: dict[str, str] = Field({}, description="plan of single keys")

    rate: int | None = Field(
        None, ge=1, description="requests per account in any window, such as 60/60; rejected requests count"
    )
    rate_window_s: float = Field(60.0, gt=0, allow_inf_nan=False, description="length of the window")
    rate_retry_after_s: Seconds | None = Field(None, description="its Retry-After (default: the window)")
    concurrency: int | None = Field(None, ge=0, description="requests per account in flight")
    concurrency_retry_after_s: Seconds = Field(5.0, description="its Retry-After (default: 5)")
    quota: int | None = Field(None, ge=0, description="requests per account and day")
    quota_retry_after_s: Seconds = Field(3600.0, description="its Retry-After (default: 3600)")
    day_s: float = Field(86_400.0, gt=0, description="length of a day; days begin at multiples of it")
    balance_calls: int | None = Field(None, ge=0, description="answers per account, then 402")
    balance_tokens: int | None = Field(None, ge=0, description="tokens per account, then 402")
    retry_after_form: RetryAfterForm = Field(
        "auto", description="auto, integer, fraction, date, missing, absurd or negative (default: auto)"
    )
    early_grace_s: Seconds = Field(
        0.1, description="a request this soon after a 429 was already on its way: it counts as crossed, not as early"
    )

    capacity: int | None = Field(
        None, ge=0, description="requests that run at a time, of all accounts; others are rejected as busy"
    )
    queue_size: int = Field(0, ge=0, description="requests that may wait for a free slot; others are rejected as busy")
    queue_wait_s: Seconds = Field(60.0, description="maximum wait for a free slot, then rejected as busy")
    busy_retry_after_s: Seconds = Field(10.0, description="Retry-After of busy")

    latency_s: Annotated[tuple[Seconds, Seconds], BeforeValidator(_parse_range)] = Field(
        (0.0, 0.0), description="time to an answer: 0.2, or a random time such as 1-3 (default: 0)"
    )
    answer_timeout_s: float | None = Field(
        30.0, gt=0, description="an answer that takes longer becomes a 408, unless it streams"
    )
    faults: Annotated[dict[FaultKind, Probability], BeforeValidator(_parse_faults)] = Field(
        {}, description="probability of a fault, such as 503=0.01"
    )
    outages: tuple[Outage, ...] = Field((), description="an outage, such as 10:5:drop; kinds: 500, 503, drop, refuse")
    moderation_words: tuple[str, ...] = Field((), description="a word to block: content with it gets a 422")
    content_parts: bool = Field(False, description="accept content as OpenAI parts, which Mira does not document")
    api_version: Literal["current", "deprecated", "retired"] = Field(
        "current", description="deprecated: send Deprecation and Sunset headers; retired: respond with 410"
    )
    redirect_to: str = Field("127.0.0.1:9", description="HOST:PORT of the fault redirect")
    huge_bytes: int = Field(64 * 1024 * 1024, ge=1, description="size of the body of the fault huge")
    drip_interval_s: float = Field(0.05, gt=0, description="time between two bytes of the fault drip")

    hints_late_s: float = Field(
        0.7, ge=0, description="time from the interim responses of the fault earlyhints to the final one"
    )

    seed: int = Field(0, description="seed of the random faults and latencies (default: 0)")
    count_requests: bool = Field(
        True, description="do not count single requests: memory stays constant over millions of them"
    )
    log_calls: bool = Field(False, description="log the times and the outcome of each call, for benchmarks")

    @model_validator(mode="before")
    @classmethod
    def _parse_rate(cls, values: Any) -> Any:
        """Accept the rate as "60/60" too: requests and seconds."""
        if not isinstance(values, dict) or not isinstance(values.get("rate"), str):
            return values
        rate, slash, window_s = values["rate"].partition("/")
        if not slash:
            raise ValueError("rate: expected N/SECONDS, such as 60/60")
        return values | {"rate": rate, "rate_window_s": window_s}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.latency_s[0] > self.latency_s[1]:
            raise ValueError("latency_s: the minimum is greater than the maximum")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("faults: the probabilities add up to more than 1")
        for plan in (self.plan, *self.key_plans.values()):
            if self.plans is not None and plan not in self.plans:
                raise ValueError(f"plan {plan!r} is not among plans ({', '.join(self.plans) or 'none'})")
        return self

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return a copy with `changes`. Raise pydantic's ValidationError if the result is not valid."""
        return type(self).model_validate(vars(self) | changes)

    def may_use(self, key: str, model: str) -> bool:
        return self.plans is None or model in self.plans[self.key_plans.get(key, self.plan)]


def mira_limits(scale: float = 1.0) -> dict[str, Any]:
    """Return the limits of Mira, as observed for each account: 60 requests in any 60 s, and 3 in flight."""
    return {"rate": 60, "rate_window_s": 60 * scale, "concurrency": 3, "concurrency_retry_after_s": 5 * scale}


def describe(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """Return the errors of a configuration as one line. `names` are other names of its fields."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(each) for each in item["loc"]]
        name = (names or {}).get(path[0], ".".join(path)) if path else ""
        lines.append(f"{name}: {item['msg']}".removeprefix(": ").replace("Value error, ", "", 1))
    return "; ".join(lines)
