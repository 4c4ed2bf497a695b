"""Log lines: one an event, JSON or readable, ours and those of the libraries alike."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LOG_SOME = """
import logging, structlog
from mira_queue.contract.logs import configure_logs
configure_logs({form!r}, {level!r})
log = structlog.get_logger("mira_queue.worker").bind(job_id="some-id")
log.debug("too_quiet")
log.info("attempt", status=200, text="two\\nlines")
logging.getLogger("celery").warning("from %s", "Celery")
logging.getLogger("urllib3.connectionpool").info("POST /v1/chat/completions")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("rescue_failed")
"""


def logged(form: str, level: str = "info") -> list[str]:
    """What a process with these logs writes to standard error, which is no terminal."""
    code = LOG_SOME.format(form=form, level=level)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_away_from_a_terminal_every_line_is_json(form: str) -> None:
    attempt, celery, failed = (json.loads(line) for line in logged(form))

    assert (attempt["event"], attempt["level"], attempt["job_id"]) == ("attempt", "info", "some-id")
    assert (attempt["status"], attempt["text"]) == (200, "two\nlines")
    assert attempt["timestamp"].endswith("Z")
    assert (celery["event"], celery["level"]) == ("from Celery", "warning")
    assert "ZeroDivisionError" in failed["exception"]


def test_the_least_level_is_a_setting() -> None:
    assert [json.loads(line)["event"] for line in logged("json", "error")] == ["rescue_failed"]
    assert json.loads(logged("json", "debug")[0])["event"] == "too_quiet"


def test_readable_lines_carry_the_same() -> None:
    text = "\n".join(logged("text"))

    assert "attempt" in text
    assert "job_id=some-id" in text
    assert "from Celery" in text
    assert "{" not in text.splitlines()[0]
