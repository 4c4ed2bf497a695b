"""`mira-queue config`: each setting with its value, source and meaning, as `Settings` declares it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.processes import written
from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.settings_loader import load_settings

ENV_FILE = str(Settings.model_config.get("env_file"))
KEY_PREFIX = "sk-mira-"
# Of a long secret, the last characters are shown. Of a shorter one, they would reveal too much.
SHOWN_CHARS = 4
MIN_LONG_SECRET_CHARS = 20
# Up to the last @: URL parsers miss a password that contains an unquoted / ? or #.
PASSWORD = re.compile(r"://([^:@]*:)?.*@", re.DOTALL)
# A parameter of a URL can be a secret too: ?password=, ?sslpassword=, ?aws_secret_access_key=
SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key|auth|cred)[^=&]*)=[^&#]*", re.IGNORECASE)

HELP_END = console.help_end(
    [
        ("mira-queue config", "all settings and their sources"),
        ("mira-queue config --json | jq '.[] | select(.source != \"default\")'", "changed settings"),
    ],
    {0: "all settings are valid", 2: "some settings are invalid: one line for each, with its variable"},
)


def config(as_json: Json = False) -> None:
    """Show each setting with its value and source.

    Secrets are masked.

    \b
    The first of these sources that has a setting is used:
      1. the environment             export MIRA_MODEL=mira-pro
      2. .env in this directory      MIRA_MODEL=mira-pro        (.env.example lists all settings)
      3. its default

    Durations are in seconds. In a pipe, the table is tab-separated, with a header.
    """
    settings = described(load_settings())
    if as_json:
        console.json_data(settings)
        return
    columns = ("variable", "value", "source", "meaning")
    console.table(columns, [[setting[column] or "" for column in columns] for setting in settings])


def described(settings: Settings) -> list[dict[str, str | None]]:
    """Return every setting as it is shown: values as in the environment, secrets masked, None if not set."""
    sources = dict.fromkeys(DotEnvSettingsSource(Settings)(), ENV_FILE)
    sources |= dict.fromkeys(EnvSettingsSource(Settings)(), "environment")
    return [
        {
            "variable": variable(name),
            "value": shown(getattr(settings, name)),
            "source": sources.get(name, "default"),
            "default": shown(field.default),
            "meaning": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]


def shown(value: Any) -> str | None:
    """Return a value ready to print."""
    if isinstance(value, SecretStr):
        return masked(value.get_secret_value())
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: ***" for name in value) or None
    return None if value is None else written(value)


def masked(secret: str) -> str:
    """Return a URL without its passwords, or at most the last four characters of a key."""
    if "://" not in secret:
        prefix = KEY_PREFIX if secret.startswith(KEY_PREFIX) else ""
        end = secret[-SHOWN_CHARS:] if len(secret) >= MIN_LONG_SECRET_CHARS else ""
        return f"{prefix}…{end}"
    return SECRET_PARAMETER.sub(r"\1=***", PASSWORD.sub(r"://\1***@", secret))
