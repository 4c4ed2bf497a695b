"""Result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mira_producer.cli import console
from mira_producer.cli.config import masked
from mira_queue.contract.settings import Settings


class Verdict(StrEnum):
    """ok, warning (works, but not as it should, or not yet), or problem (does not work)."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was checked, what was found and, unless it is ok, a fix."""

    check: str
    verdict: Verdict
    found: str
    fix: str | None = None


def ok(check: str, found: str) -> Finding:
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Verdict.WARNING, found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, found, fix)


def compared_clocks(check: str, apart_s: float, allowed_s: float, fix: str) -> Finding:
    """Compare a server's clock, which is `apart_s` ahead, with that of this machine."""
    found = f"{abs(apart_s):.1f} s apart"
    return ok(check, found) if abs(apart_s) <= allowed_s else warning(check, found, fix)


def reason(error: BaseException, settings: Settings) -> str:
    """Return a library's error as one line without our secrets: some libraries put their URL into the message."""
    text = console.one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__
    for secret in (settings.redis_url, settings.result_backend, settings.api_key):
        if secret is not None:
            value = secret.get_secret_value()
            text = text.replace(value, masked(value))
            password = value.partition("://")[2].rpartition("@")[0].partition(":")[2]
            if password:
                text = text.replace(password, "***")
    return text
