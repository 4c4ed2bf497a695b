"""What a check of the doctor's finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mira_producer.cli import console
from mira_producer.cli.config import masked
from mira_queue.contract.settings import Settings


class Verdict(StrEnum):
    """ok; warning: works, but not as it should, or not yet; problem: does not work."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, what was found and, where that is not well, what to do."""

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


def reason(error: BaseException, settings: Settings) -> str:
    """An error of a library in one line, with our secrets taken out: some put the URL they were given into it."""
    text = console.one_line(str(error)) or type(error).__name__
    for secret in (settings.redis_url, settings.result_backend, settings.api_key):
        if secret is not None:
            value = secret.get_secret_value()
            text = text.replace(value, masked(value))
            userinfo, at, _ = value.partition("://")[2].rpartition("@")
            password = userinfo.partition(":")[2]
            if at and password:
                text = text.replace(password, "***")
    return text
