"""Configuration of the simulator: name, default, unit and meaning of each setting. `POST /sim/config` changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mira_queue.simulator.faults import parse_kind
from mira_queue.simulator.limiters import Kind
from mira_queue.simulator.wait_headers import RateHeaders, RetryAfterForm

MIRA_MODELS = ("mira", "mira-thinking", "mira-pro", "mira-max")

Backend = Literal["documented", "mira"]
OutageKind = Literal["500", "500late", "503", "drop", "refuse"]


def _parse_range(value: Any) -> Any:
    """Accept a latency as `0.2`, "0.2", "1-3" or [1, 3]."""
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return value


def _parse_pace(value: Any) -> Any:
    """Accept calls per second as 3, "3/1" or "3/s"."""
    if not isinstance(value, str):
        return value
    calls, _, window = value.partition("/")
    try:
        return float(calls) / float(window.removesuffix("s") or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected N/SECONDS, such as 3/s") from None


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


class Change(BaseModel):
    """Change of some settings, `after_s` from the start, from a reset, or from a change of the changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_s: Seconds
    settings: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        """Accept "20:concurrency=2" too."""
        if not isinstance(value, str):
            return value
        after_s, colon, setting = value.partition(":")
        name, equals, text = setting.partition("=")
        if not (colon and equals):
            raise ValueError("expected AFTER:SETTING=VALUE, such as 20:concurrency=2")
        return {"after_s": after_s, "settings": {name: text}}


class SimulatorConfig(BaseModel):
    """Settings of one simulated API. By default it has no limits; see PRESETS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = Field("documented", description="mira: check and respond as Mira's real backend does")
    models: tuple[str, ...] = Field(MIRA_MODELS, description="a model to serve; others get a 400 (default: Mira's)")
    keys: tuple[str, ...] | None = Field(None, description="a key to accept; others get a 401 (default: any key)")
    plans: dict[str, tuple[str, ...]] | None = Field(
        None, description="models of each plan; others get a 403 (default: every plan has every model)"
    )
    plan: str = Field("max", description="plan of the accounts that key_plans does not name")
    key_plans: dict[str, str] = Field({}, description="plan of single keys")

    rate: int | None = Field(None, ge=1, description="calls per account in a window, such as 60/60")
    rate_window_s: float = Field(60.0, gt=0, allow_inf_nan=False, description="length of the window")
    limiter: Kind = Field(
        "sliding-log",
        description="how calls are counted: sliding-log (rejected calls count too, default), sliding-window (they do "
        "not), fixed-window, token-bucket or leaky-bucket",
    )
    burst: int | None = Field(
        None, ge=0, description="size of the token bucket (default: N of the rate), or calls that wait in the leaky one"
    )
    token_rate: int | None = Field(
        None, ge=1, description="tokens per account in a window, such as 30000/60: prompt and max_tokens"
    )
    token_window_s: float = Field(60.0, gt=0, allow_inf_nan=False, description="length of the window of tokens")
    token_limiter: Kind = Field("token-bucket", description="how tokens are counted (default: token-bucket)")
    limited_models: tuple[str, ...] = Field(
        (), description="a model with limits of its own; other models then have none (default: one limit for all)"
    )
    other_calls: Annotated[float, BeforeValidator(_parse_pace), Field(ge=0, le=10_000)] = Field(
        0.0,
        description="calls of other clients on each account, such as 3/s: they count toward its rate",
    )
    other_calls_at: Literal["random", "even"] = Field(
        "random", description="times of these calls: random (default), or even, as those of a client with a timer"
    )
    rate_retry_after_s: Seconds | None = Field(
        None, description="wait stated for the rate (default: the window of a sliding log, else the true time)"
    )
    concurrency: int | None = Field(None, ge=0, description="requests per account in flight")
    concurrency_retry_after_s: Seconds = Field(5.0, description="its Retry-After (default: 5)")
    quota: int | None = Field(None, ge=0, description="requests per account and day")
    quota_retry_after_s: Seconds = Field(3600.0, description="its Retry-After (default: 3600)")
    month_tokens: int | None = Field(None, ge=0, description="tokens per account, then 429 until the month ends")
    month_retry_after_s: Seconds = Field(86_400.0, description="its Retry-After (default: 86400)")
    leak_s: Seconds | None = Field(
        None,
        description="slots leak: those of calls that were moderated, timed out, busy, or left by their client are in "
        "use until no call was admitted for this long (default: no slot leaks)",
    )
    day_s: float = Field(86_400.0, gt=0, description="length of a day; days begin at multiples of it")
    balance_calls: int | None = Field(None, ge=0, description="answers per account, then 402")
    balance_tokens: int | None = Field(None, ge=0, description="tokens per account, then 402")
    retry_after_form: RetryAfterForm = Field(
        "auto",
        description="how a 429 states the wait: Retry-After as auto, integer (rounded up), fraction, date, unix, "
        "absurd or negative; ms (retry-after-ms), x-ms (x-ms-retry-after-ms), or missing (default: auto)",
    )
    rate_headers: RateHeaders = Field(
        "none",
        description="headers on every response: openai (x-ratelimit-remaining-requests, ...-reset-requests: 1s), "
        "X-RateLimit-Reset in seconds, as unix or unix-ms, draft (RateLimit: r=0;t=30), or none (default: none)",
    )
    rate_headers_on: Literal["every", "429"] = Field(
        "every", description="responses that have them: every one, or each 429 (default: every)"
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
    outages: tuple[Outage, ...] = Field(
        (), description="an outage, such as 10:5:drop; kinds: 500, 500late (after 10 s), 503, drop, refuse"
    )
    changes: tuple[Change, ...] = Field(
        (), description="a setting to change after some seconds, such as 20:concurrency=2"
    )
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
    def _parse_rates(cls, values: Any) -> Any:
        """Accept rates as "60/60" or "60/60s" too: amount and seconds."""
        if not isinstance(values, dict):
            return values
        for name, window in (("rate", "rate_window_s"), ("token_rate", "token_window_s")):
            if isinstance(text := values.get(name), str):
                amount, slash, window_s = text.partition("/")
                if not slash:
                    raise ValueError(f"{name}: expected N/SECONDS, such as 60/60")
                values = values | {name: amount, window: window_s.removesuffix("s")}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.latency_s[0] > self.latency_s[1]:
            raise ValueError("latency_s: the minimum is greater than the maximum")
        for change in self.changes:
            type(self).model_validate(vars(self) | {"changes": ()} | change.settings)
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("faults: the probabilities add up to more than 1")
        for plan in (self.plan, *self.key_plans.values()):
            if self.plans is not None and plan not in self.plans:
                raise ValueError(f"plan {plan!r} is not among plans ({', '.join(self.plans) or 'none'})")
        return self

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return a copy with `changes`. Raise pydantic's ValidationError if the result is not valid."""
        return type(self).model_validate(vars(self) | changes)

    def has_key(self, key: str) -> bool:
        return key != "" and (self.keys is None or key in self.keys)

    def may_use(self, key: str, model: str) -> bool:
        return self.plans is None or model in self.plans[self.key_plans.get(key, self.plan)]


def documented_limits(scale: float = 1.0) -> dict[str, Any]:
    """Return the limits of Mira, as observed for each account: 60 requests in any 60 s, and 3 in flight."""
    return {"rate": 60, "rate_window_s": 60 * scale, "concurrency": 3, "concurrency_retry_after_s": 5 * scale}


def mira_limits(scale: float = 1.0) -> dict[str, Any]:
    """Return the same limits with everything else that Mira's real backend does."""
    return {**documented_limits(scale), "backend": "mira", "leak_s": 300 * scale}


PRESETS = {"documented": documented_limits, "mira": mira_limits}


def describe(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """Return the errors of a configuration as one line. `names` are other names of its fields."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(each) for each in item["loc"]]
        name = (names or {}).get(path[0], ".".join(path)) if path else ""
        lines.append(f"{name}: {item['msg']}".removeprefix(": ").replace("Value error, ", "", 1))
    return "; ".join(lines)
