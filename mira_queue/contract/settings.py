"""Every setting: name, default, unit, meaning. Entry points build the settings once and pass them on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mira_queue.contract.account import checked_name
from mira_queue.contract.api_key import Scope
from mira_queue.contract.crash_point import parse_crash_at
from mira_queue.contract.durations import duration, in_seconds
from mira_queue.contract.endpoint import (
    AUTHORIZATION,
    checked_base,
    checked_header_name,
    checked_headers,
    parse_headers,
)
from mira_queue.contract.failed_answer import FAILED_ANSWER, checked_pattern
from mira_queue.contract.pace import ConfiguredLimits
from mira_queue.contract.server_url import SCHEMES, parse_server_url
from mira_queue.contract.unicode import is_unicode
from mira_queue.contract.webhook import checked_secret

ENV_PREFIX = "MIRA_"
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

ZERO = timedelta(0)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class SettingsError(ValueError):
    """A setting is wrong. The message has one line for each variable: its name and what is expected."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` in any `window`."""

    count: int
    window: timedelta

    @property
    def window_ms(self) -> int:
        return round(self.window.total_seconds() * 1000)

    def __str__(self) -> str:
        return f"{self.count}/{in_seconds(self.window)}s"


# Limits of most Mira accounts. They differ by plan, and change.
MIRA_BASE, MIRA_RATE, MIRA_IN_FLIGHT = "https://api.vmira.ai/v1", RateLimit(60, timedelta(seconds=60)), 3


class LimitSettings(Protocol):
    """Settings of an account's limits."""

    @property
    def rate(self) -> RateLimit | None: ...
    @property
    def max_in_flight(self) -> int | None: ...
    @property
    def tokens(self) -> RateLimit | None: ...
    @property
    def expected_rate(self) -> RateLimit | None: ...
    @property
    def expected_in_flight(self) -> int | None: ...


def limits_of(base: str, settings: LimitSettings) -> ConfiguredLimits:
    """Return an account's limits as one value: the ceilings, and the expected limits, which Mira's accounts have."""
    rate, tokens = settings.rate, settings.tokens
    expected_rate = settings.expected_rate or (MIRA_RATE if base == MIRA_BASE else None)
    expected_in_flight = settings.expected_in_flight or (MIRA_IN_FLIGHT if base == MIRA_BASE else 0)
    return ConfiguredLimits(
        rate=rate.count if rate else 0,
        window_ms=rate.window_ms if rate else 0,
        in_flight=settings.max_in_flight or 0,
        tokens=tokens.count if tokens else 0,
        tokens_window_ms=tokens.window_ms if tokens else 0,
        expected_rate=expected_rate.count if expected_rate else 0,
        expected_window_ms=expected_rate.window_ms if expected_rate else 0,
        expected_in_flight=expected_in_flight,
    )


def _parse_seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return duration(value, "s")
    except (ValueError, OverflowError):
        raise ValueError(f"expected seconds, such as 90 or 0.5, got {value[:40]!r}") from None


_RATE_LIMIT = re.compile(r"(\d{1,12})\s*/\s*(\d{1,6}(?:\.\d{1,3})?)?\s*(s|m|min|h|d)?", re.IGNORECASE)


def _parse_rate_limit(value: Any) -> RateLimit:
    if isinstance(value, RateLimit):
        return value
    # pydantic-settings decodes a value that is valid JSON, such as "60", before it gets here.
    text = str(value).strip()
    match = _RATE_LIMIT.fullmatch(text)
    if match is None or not int(match[1]) or not float(match[2] or 1):
        raise ValueError(f"expected a number per time, such as 60/60s or 1000/h, got {text[:40]!r}")
    window = duration(match[2] or "1", match[3] or "s")
    if window > DAY:
        raise ValueError("expected a time of at most a day")
    return RateLimit(int(match[1]), window)


def parse_key(value: SecretStr | None) -> SecretStr | None:
    """Return the key without surrounding spaces, or None if it is empty. Raises ValueError."""
    text = value.get_secret_value().strip() if value else ""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected printable ASCII without spaces (the value is not shown)")
    return SecretStr(text) if text else None


def _redis_url(value: SecretStr) -> SecretStr:
    parse_server_url(value.get_secret_value())
    return value


def _result_backend(value: SecretStr | None) -> SecretStr | None:
    if value is None or value.get_secret_value() == "same":
        return None
    url = value.get_secret_value()
    if url.partition("://")[0] in SCHEMES:
        parse_server_url(url)
    return value


def _state_dir(value: Path) -> Path:
    path = value.expanduser().absolute()
    if not is_unicode(str(path)):
        raise ValueError("expected a path in UTF-8")
    return path


def _crash_at(value: str) -> str:
    parse_crash_at(value)
    return value


_SUBPATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\*")


def _parse_hosts(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    hosts = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    if wrong := [name for name in hosts if not _HOST.fullmatch(name)]:
        raise ValueError(f"expected names without ports, separated by commas, got {wrong[0][:80]!r}")
    return hosts


def _parse_networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in value.split(",") if each.strip())
    except ValueError:
        raise ValueError(f"expected addresses or networks, separated by commas, got {value[:80]!r}") from None


def _page_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ValueError(f"expected a URL such as https://mira.example.com/queue, got {value[:80]!r}")
    if not _SUBPATH.fullmatch(parts.path):
        raise ValueError("expected a path of letters, digits, ., _, ~ and -")
    return value.rstrip("/")


def _parse_secrets(value: Any) -> Any:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    for secret in value.split():
        checked_secret(secret)
    if not 1 <= len(value.split()) <= 2:
        raise ValueError("expected one secret, or during a rotation two: the new one, a space, and the old one")
    return value


ApiBase = Annotated[str, AfterValidator(checked_base)]
KeyHeader = Annotated[str, AfterValidator(checked_header_name)]
# NoDecode: a value that is not JSON gets our message, without the value.
Headers = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(parse_headers)]
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_hosts)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_parse_networks)]
PageUrl = Annotated[str, AfterValidator(_page_url)]
RateLimitSetting = Annotated[RateLimit, BeforeValidator(_parse_rate_limit)]
Seconds = Annotated[timedelta, BeforeValidator(_parse_seconds)]


class Settings(BaseSettings):
    """All settings of mira-queue. The environment takes precedence over `.env` in the working directory."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    api_key: Annotated[SecretStr | None, AfterValidator(parse_key)] = Field(
        None, description="Key of the Mira account (sk-mira-...). It is never printed or stored."
    )
    api_base: ApiBase = Field(
        MIRA_BASE,
        description="Base URL of the API. Any OpenAI-compatible server works. It may have a query (?api-version=...).",
    )
    key_header: KeyHeader = Field(
        AUTHORIZATION, description="Header that carries the key. Authorization: as a bearer token. Azure: api-key."
    )
    headers: Headers = Field(
        {}, description='Additional headers of each call, as JSON: {"X-Team": "search"}. The values are never printed.'
    )
    account: Annotated[str, AfterValidator(checked_name)] | None = Field(
        None,
        description="Named account whose jobs commands submit, and the only one that workers serve. "
        "Not set: that of MIRA_API_KEY; workers serve all.",
    )
    accounts_file: Path | None = Field(
        None, description="File with named accounts. Not set: accounts.toml in the working directory, if it exists."
    )
    model: str = Field("mira", min_length=1, max_length=256, description="Model for requests that name none.")
    check_limits: Literal["mira", "none"] = Field(
        "mira", description="mira: reject a request that Mira would reject, before it is sent. none: check no limits."
    )

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        None,
        description="Server for the queue and the ledger: redis://, rediss://, redis+socket:// or "
        "redis+sentinel://. Not set: the embedded server.",
    )
    result_backend: Annotated[SecretStr | None, AfterValidator(_result_backend)] = Field(
        None, description="Celery result backend for the outcomes. Not set, or 'same': the queue's server."
    )
    state_dir: Annotated[Path, AfterValidator(_state_dir)] = Field(
        Path("~/.local/state/mira-queue"),
        description="Directory for the embedded server, and for the files of batches and of the gateway.",
    )
    result_ttl: Seconds = Field(DAY * 7, gt=ZERO, le=DAY * 365, description="Time after which an outcome expires.")

    connect_timeout: Seconds = Field(
        SECOND * 10, gt=ZERO, le=DAY, description="Maximum wait for a connection to the API."
    )
    request_timeout: Seconds = Field(
        SECOND * 300, gt=ZERO, le=DAY, description="Maximum wait for a complete response of the API."
    )
    max_response_bytes: int = Field(
        32 * 1024 * 1024, ge=1024, description="Maximum size of a response in bytes. A larger one is a server fault."
    )
    failed_answer: Annotated[str, AfterValidator(checked_pattern)] = Field(
        FAILED_ANSWER,
        description="Regular expression for texts that a server sends when its model fails; they count as server "
        "faults. (?!) matches none.",
    )
    max_attempts: int = Field(
        5, ge=1, le=1000, description="Calls of one job that may end in a server fault before the job fails."
    )
    backoff_base: Seconds = Field(
        SECOND,
        gt=ZERO,
        le=DAY,
        description="Maximum wait after the first server fault of a job. It doubles with each fault.",
    )
    backoff_cap: Seconds = Field(
        SECOND * 60, gt=ZERO, le=DAY, description="Maximum wait after any server fault of a job."
    )

    # More than any Mira account admits. The pacer learns how many calls to send; the other jobs wait at no cost.
    concurrency: int = Field(32, ge=1, le=1000, description="Jobs that one worker process runs at a time.")
    rate: RateLimitSetting | None = Field(
        None, description="Maximum calls of the account, such as 60/60s. Not set: learned from the API."
    )
    max_in_flight: int | None = Field(
        None, ge=1, le=100_000, description="Maximum calls of the account in flight. Not set: learned from the API."
    )
    tokens: RateLimitSetting | None = Field(
        None, description="Maximum tokens of the account, such as 90000/60s. Not set: no limit."
    )
    expected_rate: RateLimitSetting | None = Field(
        None,
        description="First estimate of the account's rate limit, such as 500/60s. Not set: 60/60s for Mira's own API, "
        "otherwise none.",
    )
    expected_in_flight: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="First estimate of the account's calls in flight. Not set: 3 for Mira's own API, otherwise none.",
    )
    lease: Seconds = Field(
        SECOND * 15,
        ge=SECOND,
        le=HOUR,
        description="A worker that is silent for this long loses its jobs. It renews its leases three times as often.",
    )
    rescue_interval: Seconds = Field(
        SECOND * 5, gt=ZERO, le=HOUR, description="Time between two checks of a worker for orphaned jobs."
    )
    resend_after: Seconds = Field(
        SECOND * 10,
        gt=ZERO,
        le=HOUR,
        description="A job's message that is missing or overdue for this long counts as lost. A new one is sent.",
    )
    max_crashes: int = Field(
        3, ge=1, le=1000, description="Crashes of its worker after which a job becomes a dead letter (code poison)."
    )
    grace: Seconds = Field(
        SECOND * 20,
        ge=ZERO,
        le=HOUR,
        description="Time after SIGTERM for calls in flight to finish. Then their jobs return to the queue.",
    )

    gateway_hosts: Hosts = Field(
        (),
        description="Names under which clients reach the gateway, separated by commas: mira.example.com. Addresses and "
        "localhost are always allowed. *: every name.",
    )

    page_url: PageUrl | None = Field(
        None,
        description="URL of the web page if a proxy is in front of the gateway: https://mira.example.com/queue. Its "
        "host is allowed, and it may have a path.",
    )
    page_user_header: KeyHeader | None = Field(
        None,
        description="Header in which an authenticating proxy names the user of the web page: X-Forwarded-User. Not "
        "set: users sign in with a key. The proxy must remove this header from requests of clients.",
    )
    page_user_scope: Literal[Scope.READ, Scope.ADMIN] = Field(
        Scope.READ, description="Scope of these users. read: view all projects. admin: also act."
    )
    page_proxies: Networks = Field(
        _LOOPBACK,
        description="Addresses or networks of such proxies, separated by commas. From other addresses, the header is "
        "ignored.",
    )

    page_requests: Literal["hidden", "shown"] = Field(
        "hidden",
        description="Requests of jobs on the web page. shown: users with the scope admin see the prompts.",
    )

    max_file_bytes: int = Field(
        8 * 1024**3, ge=1024, description="Maximum size of a file that the gateway accepts, in bytes."
    )
    file_ttl: Seconds = Field(
        DAY * 30,
        ge=HOUR,
        le=DAY * 365,
        description="Time after which an uploaded file expires. A request can set another one (expires_after).",
    )

    webhook_secret: Annotated[SecretStr | None, BeforeValidator(_parse_secrets)] = Field(
        None,
        description="Secret (whsec_...) that signs webhooks of jobs and batches. In a rotation: the new one, a space, "
        "and the old one.",
    )
    webhook_hosts: Hosts = Field(
        (),
        description="Hosts of webhooks that may have private addresses and use plain HTTP, separated by commas: "
        "localhost,127.0.0.1. *: every host.",
    )
    webhook_timeout: Seconds = Field(
        SECOND * 20,
        ge=SECOND,
        le=SECOND * 30,
        description="Time for the receiver of a webhook to respond. Then another attempt follows.",
    )

    webhook_max_waiting: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of webhook deliveries that wait for one receiver. Others become dead deliveries, "
        "which are listed and can be sent again.",
    )

    health_file: Path | None = Field(
        None, description="File that a worker touches at every check for orphaned jobs. For health checks."
    )

    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Format of the logs: json or text. auto: text on a terminal, otherwise json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    report_content: Literal["shown", "hidden"] = Field(
        "shown",
        description="Prompts and answers in reports that commands write. shown: slow and failed lines are quoted.",
    )
    traces: Literal["off", "on"] = Field(
        "off", description="on: record traces, and export them to an OpenTelemetry collector (OTEL_* variables)."
    )
    trace_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the lines of files whose traces are exported, from 0 to 1. Those of failed calls always "
        "are.",
    )

    crash_at: Annotated[str, AfterValidator(_crash_at)] | None = Field(
        None, description="For tests only: the crash point at which a process crashes. Needs a simulator."
    )

    @property
    def webhook_secrets(self) -> list[SecretStr]:
        """Secrets that sign webhooks of single jobs and batches, the newest first."""
        value = "" if self.webhook_secret is None else self.webhook_secret.get_secret_value()
        return [SecretStr(secret) for secret in value.split()]

    @property
    def configured_limits(self) -> ConfiguredLimits:
        """Limits of the account: its ceilings, and the expected ones."""
        return limits_of(self.api_base, self)

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
        # The web app uses the same .env: ignore its variables, but reject a misspelled one of ours.
        dotenv_settings.env_vars = {
            name: value
            for name, value in dotenv_settings.env_vars.items()
            if name.lower().startswith(ENV_PREFIX.lower())
        }
        _reject_redirected_key({**env_settings(), **init_settings()}, dotenv_settings(), cls.model_fields["api_base"])
        return init_settings, env_settings, dotenv_settings

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.crash_at is not None and urlsplit(self.api_base).hostname not in LOOPBACK_HOSTS:
            raise ValueError("MIRA_CRASH_AT is for tests: it needs a MIRA_API_BASE on this machine")
        try:
            checked_headers(self.headers, self.key_header)
        except ValueError as error:
            raise ValueError(f"MIRA_HEADERS: {error}") from None
        if self.backoff_cap < self.backoff_base:
            raise ValueError("MIRA_BACKOFF_CAP must be at least MIRA_BACKOFF_BASE")
        return self


def _reject_redirected_key(given: Mapping[str, Any], env_file: Mapping[str, Any], api_base: FieldInfo) -> None:
    """Raise SettingsError if the `.env` of a directory would send a key from elsewhere to a base of its own."""
    base = env_file.get("api_base")
    if given.get("api_key") and "api_base" not in given and base and base.rstrip("/") != api_base.default:
        raise SettingsError(
            f"MIRA_API_BASE: .env would send the MIRA_API_KEY of the environment to {base}: "
            "set both in the environment, or both in .env"
        )


def variable(field: str) -> str:
    """Return the environment variable of a field: `MIRA_API_KEY` for `api_key`."""
    return ENV_PREFIX + field.upper()
