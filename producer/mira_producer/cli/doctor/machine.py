"""Checks of this machine: Python and packages, disk."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement

from mira_producer.cli.console import PROGRAM
from mira_producer.cli.doctor.finding import Finding, ok, problem, warning
from mira_queue.contract.settings import Settings, variable
from mira_queue.ledger.embedded import is_supported

MIB = 1024 * 1024
# The server rewrites the append-only file from time to time. While it does, the disk holds the file twice.
LOW_DISK_BYTES = 1024 * MIB
MIN_DISK_BYTES = 100 * MIB


def check_packages() -> Iterator[Finding]:
    """Compare the installed packages with those that mira-queue requires. pip has checked the version of Python."""
    yield ok("Python", platform.python_version())
    requirements = metadata.requires(PROGRAM) or []
    wrong = list(unmet(requirements))
    for found in wrong:
        yield problem("packages", found, f"pip install --upgrade {PROGRAM}")
    if not wrong:
        yield ok("packages", ", ".join(f"{each.name} {metadata.version(each.name)}" for each in needed(requirements)))


def needed(requirements: Iterable[str]) -> list[Requirement]:
    """Return the requirements that apply here, without those of extras."""
    parsed = [Requirement(line) for line in requirements]
    return [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]


def unmet(requirements: Iterable[str]) -> Iterator[str]:
    """Yield a line for each requirement that the installed packages do not meet."""
    for each in needed(requirements):
        wanted = f"(needs {each.specifier or 'any version'})"
        try:
            version = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            yield f"{each.name} is missing {wanted}"
            continue
        if not each.specifier.contains(version, prereleases=True):
            yield f"{each.name} {version} {wanted}"


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Check the directory of the embedded server. There is nothing to check if another server is configured."""
    if settings.redis_url is not None:
        return
    if not is_supported():
        fix = f"set {variable('redis_url')} to a Redis or Valkey server"
        yield problem("embedded server", "not available for this machine", fix)
    # Before the first use, the directory in which it will be created.
    folder = next(path for path in (settings.state_dir, *settings.state_dir.parents) if path.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        fix = f"set {variable('state_dir')} to a writable directory"
        yield problem("state directory", f"{folder} is not writable", fix)
        return
    free = shutil.disk_usage(folder).free
    found = f"{settings.state_dir}, {free / MIB:,.0f} MiB free"
    fix = f"free some space, or set {variable('state_dir')} to a larger disk: a full disk accepts no jobs"
    if free < LOW_DISK_BYTES:
        yield (problem if free < MIN_DISK_BYTES else warning)("state directory", found, fix)
    else:
        yield ok("state directory", found)
