"""Loading of the modules that record spans. If traces are off, they and their libraries are not imported."""

from __future__ import annotations

import importlib
from typing import Any

from mira_queue.contract.settings import Settings, SettingsError, variable


def load_traces(settings: Settings, module: str) -> Any:
    """Return a module of ours that records spans, or None if traces are off. Raises SettingsError without its extra."""
    if settings.traces == "off":
        return None
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"{variable('traces')}: traces need more packages ({error}): "
            "make install, or pip install 'PATH[otel]' (PATH: the checkout)"
        ) from None
