"""Load the settings from the environment and `.env`. Only entry points call this."""

from __future__ import annotations

import difflib
import os
from typing import Any

from pydantic import ValidationError

from mira_queue.contract.settings import ENV_PREFIX, Settings, SettingsError, variable

# A MIRA_ variable this similar to one of ours is a misspelling. Any other may belong to another program.
MIN_SIMILARITY = 0.9
_KNOWN = tuple(variable(name) for name in Settings.model_fields)


def load_settings(**overrides: Any) -> Settings:
    """Return the settings from the environment and `.env`. `overrides` take precedence.

    Raise SettingsError with one line for each wrong or misspelled variable. No line contains a secret's value.
    """
    wrong = [_unknown(name) for name in _unknown_variables() if _similar(name)]
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        wrong += [_line(item) for item in error.errors(include_input=False)]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings


def ignored_variables() -> list[str]:
    """Return the MIRA_ variables of the environment that are neither settings nor misspelled settings."""
    return [name for name in _unknown_variables() if not name.startswith(f"{ENV_PREFIX}TEST_")]


def _unknown_variables() -> list[str]:
    return [name for name in sorted(os.environ) if name.upper().startswith(ENV_PREFIX) and name.upper() not in _KNOWN]


def _similar(name: str) -> list[str]:
    return difflib.get_close_matches(name.upper(), _KNOWN, n=1, cutoff=MIN_SIMILARITY)


def _unknown(name: str) -> str:
    hint = "".join(f", did you mean {known}?" for known in _similar(name))
    return f"{name.upper()}: no such setting{hint} (mira-queue config lists all settings)"


def _line(item: Any) -> str:
    location = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        return _unknown(location if location.upper().startswith(ENV_PREFIX) else variable(location))
    reason = str(item["msg"]).removeprefix("Value error, ")
    return f"{variable(location)}: {reason}" if location else reason
