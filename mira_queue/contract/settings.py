"""Every setting, once: name, default, unit, meaning. Built in the entry points and passed on from there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mira_queue.contract.crash_point import parse_crash_at
from mira_queue.contract.pace import ConfiguredLimits

ENV_PREFIX = "MIRA_"
REDIS_SCHEMES = ("redis", "rediss", "redis+socket")
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class SettingsError(ValueError):
    """A setting is wrong. The message is one line for each variable, naming it and saying what is expected."""


def _seconds(value: Any) -> Any:
    """Durations are written as seconds: "90", "0.5"."""
    if not isinstance(value, str):
        return value
    try:
        return timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        raise ValueError(f"expected seconds, such as 90 or 0.5, got {value[:40]!r}") from None


def _quantity(value: Any) -> Any:
    """ "60/60s", "60/min", "1000/1h": so many in so long."""
    if isinstance(value, PerTime):
        return value
    # A setting that looks like JSON ("60") comes here as what that says.
    value = str(value)
    found = _QUANTITY.fullmatch(value.strip())
    if found is None or not int(found[1]) or not float(found[2] or 1):
        raise ValueError(f"expected a number in a time, such as 60/60s or 1000/h, got {value[:40]!r}")
    window = timedelta(seconds=float(found[2] or 1) * _UNITS_S[(found[3] or "s").lower()])
    if window > DAY:
        raise ValueError("expected a time of a day at most")
    return PerTime(int(found[1]), window)


_QUANTITY = re.compile(r"(\d{1,12})\s*/\s*(\d{1,6}(?:\.\d{1,3})?)?\s*(s|m|min|h|d)?", re.IGNORECASE)
_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class PerTime:
    """So many in any so long."""

    most: int
    window: timedelta

    @property
    def window_ms(self) -> int:
        return round(self.window.total_seconds() * 1000)

    def __str__(self) -> str:
        return f"{self.most}/{repr(self.window.total_seconds()).removesuffix('.0')}s"


Quantity = Annotated[PerTime, BeforeValidator(_quantity)]
Seconds = Annotated[timedelta, BeforeValidator(_seconds)]

ZERO = timedelta(0)
DAY = timedelta(days=1)


class Settings(BaseSettings):
    """All settings of mira-queue. Durations are seconds. The environment wins over `.env` in the working directory."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    api_key: SecretStr | None = Field(
        None, description="Key of the Mira account (sk-mira-...); never printed or stored."
    )
    api_base: str = Field("https://api.vmira.ai/v1", description="Base URL of the API; any OpenAI-compatible server.")
    model: str = Field("mira", min_length=1, max_length=256, description="Model for requests that name none.")
    check_limits: Literal["mira", "none"] = Field(
        "mira", description="Refuse before sending what Mira would refuse; 'none' for servers with other limits."
    )

    redis_url: SecretStr | None = Field(
        None, description="Queue and ledger: redis://, rediss:// or redis+socket://; unset: the embedded server."
    )
    result_backend: SecretStr | None = Field(
        None, description="Any Celery result backend for the outcomes; unset, or 'same': the same Redis."
    )
    state_dir: Path = Field(
        Path("~/.local/state/mira-queue"), description="Where the embedded server keeps its data, log and socket."
    )
    result_ttl: Seconds = Field(DAY * 7, gt=ZERO, le=DAY * 365, description="How long an outcome is kept.")

    connect_timeout: Seconds = Field(
        timedelta(seconds=10), gt=ZERO, le=DAY, description="Longest wait for a connection to the API."
    )
    request_timeout: Seconds = Field(
        timedelta(seconds=300), gt=ZERO, le=DAY, description="Longest wait for a whole answer of the API."
    )
    max_response_bytes: int = Field(
        32 * 1024 * 1024, ge=1024, description="An answer larger than this is a server fault."
    )
    max_attempts: int = Field(
        5, ge=1, le=1000, description="Calls of one job that may end in a server fault before the job fails."
    )
    backoff_base: Seconds = Field(
        timedelta(seconds=1), gt=ZERO, le=DAY, description="Ceiling of the first wait after a server fault; doubles."
    )
    backoff_cap: Seconds = Field(timedelta(seconds=60), gt=ZERO, le=DAY, description="Ceiling of any such wait.")

    # More than any account of Mira's admits: the pacer finds out how many leave, the others wait at no cost.
    concurrency: int = Field(32, ge=1, le=1000, description="Jobs that one worker process has in hand at a time.")
    rate: Quantity | None = Field(
        None, description="Ceiling of calls of the account, such as 60/60s; unset: learned from the API."
    )
    max_in_flight: int | None = Field(
        None, ge=1, le=100_000, description="Ceiling of the account's calls in flight; unset: learned from the API."
    )
    tokens: Quantity | None = Field(
        None, description="Ceiling of the account's tokens, such as 90000/60s; unset: none."
    )
    lease: Seconds = Field(
        timedelta(seconds=15),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="A worker silent for this long has lost its jobs; it renews three times as often.",
    )
    rescue_interval: Seconds = Field(
        timedelta(seconds=5), gt=ZERO, le=timedelta(hours=1), description="How often a worker looks for stranded jobs."
    )
    resend_after: Seconds = Field(
        timedelta(seconds=10),
        gt=ZERO,
        le=timedelta(hours=1),
        description="A message gone from the queue or overdue for this long counts as lost: another is sent.",
    )
    max_crashes: int = Field(
        3, ge=1, le=1000, description="Worker deaths in the middle of one job before the job is set aside as poison."
    )
    grace: Seconds = Field(
        timedelta(seconds=20),
        ge=ZERO,
        le=timedelta(hours=1),
        description="After SIGTERM, what calls in flight get to finish before their jobs go back to the queue.",
    )

    health_file: Path | None = Field(
        None, description="A file that a worker touches at every look for stranded jobs, for health checks."
    )

    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else json.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    crash_at: str | None = Field(
        None, description="Tests only: a point of a job's way at which the process dies; needs a simulator."
    )

    @property
    def configured_limits(self) -> ConfiguredLimits:
        """The ceilings that the user has told."""
        return ConfiguredLimits(
            rate=self.rate.most if self.rate else 0,
            window_ms=self.rate.window_ms if self.rate else 0,
            in_flight=self.max_in_flight or 0,
            tokens=self.tokens.most if self.tokens else 0,
            tokens_window_ms=self.tokens.window_ms if self.tokens else 0,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        # A .env is shared with the web app: its other variables are none of our business, a misspelt one of ours is.
        dotenv_settings.env_vars = {
            name: value
            for name, value in dotenv_settings.env_vars.items()
            if name.lower().startswith(ENV_PREFIX.lower())
        }
        return init_settings, env_settings, dotenv_settings

    @field_validator("api_base")
    @classmethod
    def _base_is_a_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL such as https://api.vmira.ai/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("expected no user, password, query or fragment in the URL; the key goes to MIRA_API_KEY")
        return value.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _key_fits_in_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value().strip()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("expected printable ASCII without spaces (the value is not shown)")
        return SecretStr(text) if text else None

    @field_validator("redis_url")
    @classmethod
    def _redis_url_is_one(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        parts = urlsplit(value.get_secret_value())
        if parts.scheme not in REDIS_SCHEMES:
            raise ValueError("expected redis://host:6379/0, rediss://host:6380/0 or redis+socket:///path/to.sock")
        if parts.scheme == "redis+socket" and not parts.path:
            raise ValueError("expected the socket's path: redis+socket:///path/to.sock")
        return value

    @field_validator("result_backend")
    @classmethod
    def _same_is_the_default(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None or value.get_secret_value() == "same" else value

    @field_validator("state_dir")
    @classmethod
    def _home_is_expanded(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("crash_at")
    @classmethod
    def _crash_point_exists(cls, value: str | None) -> str | None:
        if value is not None:
            parse_crash_at(value)
        return value

    @model_validator(mode="after")
    def _no_crashes_in_earnest(self) -> Self:
        if self.crash_at is not None and urlsplit(self.api_base).hostname not in THIS_MACHINE:
            raise ValueError("MIRA_CRASH_AT is for tests: allowed only with a MIRA_API_BASE on this machine")
        return self

    @model_validator(mode="after")
    def _cap_is_not_below_base(self) -> Self:
        if self.backoff_cap < self.backoff_base:
            raise ValueError("MIRA_BACKOFF_CAP is below MIRA_BACKOFF_BASE: raise the one or lower the other")
        return self


def variable(field: str) -> str:
    """The environment variable of a field: `api_key` is `MIRA_API_KEY`."""
    return ENV_PREFIX + field.upper()
