"""Load the settings from the environment and `.env`. Only entry points call this."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from mira_queue.contract.settings import ENV_PREFIX, Settings, SettingsError, variable

# Variables that start with our prefix and are not settings: those of the tests, and those that Kubernetes and Docker
# set in every container for a service whose name starts with "mira-" (MIRA_REDIS_PORT=tcp://..., ...).
_NOT_SETTINGS = re.compile(rf"{ENV_PREFIX}(TEST_\w+|(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+))")
_VARIABLES = [variable(field) for field in Settings.model_fields]


def load_settings(**overrides: Any) -> Settings:
    """Load the settings from the environment and `.env`; `overrides`, named like the fields of Settings, win.

    Raises SettingsError with one line for each wrong or unknown variable. A secret's value is never part of it.
    """
    lines = [_unknown(name.upper()) for name in sorted(os.environ) if _is_unknown(name.upper())]
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        lines += [_line(item) for item in error.errors(include_input=False)]
    if lines:
        raise SettingsError("\n".join(lines))
    return settings


def _is_unknown(name: str) -> bool:
    return name.startswith(ENV_PREFIX) and name not in _VARIABLES and not _NOT_SETTINGS.fullmatch(name)


def _unknown(name: str) -> str:
    close = get_close_matches(name, _VARIABLES, 1)
    return f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else " (see mira-queue config)")


def _line(item: Any) -> str:
    location = str(item["loc"][0]) if item["loc"] else ""
    reason = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return _unknown((location if location.upper().startswith(ENV_PREFIX) else variable(location)).upper())
    return f"{variable(location)}: {reason}" if location else reason
