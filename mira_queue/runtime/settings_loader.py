"""Load the settings from the environment and `.env`. Only entry points call this."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from mira_queue.contract.settings import ENV_PREFIX, Settings, SettingsError, variable


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment and `.env`; `overrides` win.

    Raises SettingsError, one line for each wrong variable; a secret's value is never in it.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_line(item) for item in error.errors(include_input=False))) from None


def _line(item: Any) -> str:
    location = str(item["loc"][0]) if item["loc"] else ""
    reason = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        name = location if location.upper().startswith(ENV_PREFIX) else variable(location)
        return f"{name.upper()}: no such setting (mira-queue config lists them all)"
    return f"{variable(location)}: {reason}" if location else reason
