"""`mira-queue config`: every setting, where it comes from, what it means. All of it is asked of `Settings` itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.processes import written
from mira_queue.contract.settings import Settings, variable
from mira_queue.ledger.connection import without_password
from mira_queue.runtime.settings_loader import load_settings

ENV_FILE = str(Settings.model_config.get("env_file"))
ENVIRONMENT = "environment"
DEFAULT = "default"

KEY_PREFIX = "sk-mira-"
SHOWN_CHARS = 4
# Of a shorter secret, four characters would be too much of it.
LEAST_SHOWN_FROM_CHARS = 20
# A parameter of a URL may be a password too: ?password=, ?sslpassword=, ?aws_secret_access_key=
SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key|auth|cred)[^=&]*)=[^&#]*", re.IGNORECASE)

HELP_END = console.help_end(
    [
        ("mira-queue config", "what is set, and where"),
        ("mira-queue config --json | jq -r '.[] | select(.source != \"default\") | .variable'", "what differs"),
    ],
    {0: "all settings are valid", 2: "some are not: one line for each, naming the variable"},
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it may be shown: values are written as in the environment, secrets masked, None is not set."""

    variable: str
    value: str | None
    source: str
    default: str | None
    meaning: str


def config(as_json: Json = False) -> None:
    """Show every setting, its value and source.

    Secrets are masked.

    \b
    A setting comes from, the first that has it:
      1. the environment             export MIRA_MODEL=mira-pro
      2. .env in this directory      MIRA_MODEL=mira-pro        (.env.example lists all)
      3. its default

    Durations are in seconds. In a pipe: tab-separated, with a heading.
    """
    settings = described(load_settings())
    if as_json:
        console.json_data([asdict(setting) for setting in settings])
        return
    columns = ("variable", "value", "source", "meaning")
    console.table(columns, [(each.variable, each.value or "", each.source, each.meaning) for each in settings])


def described(settings: Settings) -> list[Setting]:
    """Every setting, in the order of the class."""
    sources = _sources()
    return [
        Setting(
            variable=variable(name),
            value=shown(getattr(settings, name)),
            source=sources.get(name, DEFAULT),
            default=shown(field.default),
            meaning=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def shown(value: Any) -> str | None:
    """A value as it may be printed."""
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return masked(value.get_secret_value())
    return written(value)


def masked(secret: str) -> str:
    """A URL without its passwords; of a key, at most its last four characters."""
    if "://" not in secret:
        prefix = KEY_PREFIX if secret.startswith(KEY_PREFIX) else ""
        end = secret[-SHOWN_CHARS:] if len(secret) >= LEAST_SHOWN_FROM_CHARS else ""
        return f"{prefix}…{end}"
    url = _without_strange_password(without_password(secret))
    return SECRET_PARAMETER.sub(r"\1=***", url)


def _without_strange_password(url: str) -> str:
    """A password with an unquoted / ? or # hides from URL parsers: whatever stands before the last @ is dropped."""
    if "@" in url.removeprefix(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"):
        return re.sub(r"://.*@", "://***@", url)
    return url


def _sources() -> Mapping[str, str]:
    """The field's source, for fields that have one: what pydantic-settings itself finds there, empty ones left out."""
    env_file = DotEnvSettingsSource(Settings)()
    environment = EnvSettingsSource(Settings)()
    return {**dict.fromkeys(env_file, ENV_FILE), **dict.fromkeys(environment, ENVIRONMENT)}
