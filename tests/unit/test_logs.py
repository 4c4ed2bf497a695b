"""Log lines: one an event, JSON or readable, ours and those of the libraries alike."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

LOG_SOME = """
import logging, structlog
from mira_queue.runtime.logs import configure_logs
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


LOG_ON = """
import logging, signal, structlog, sys, threading
from mira_queue.runtime.logs import configure_logs
configure_logs({form!r}, "info")
log = structlog.get_logger("mira_queue.worker")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_log_that_cannot_be_written_ends_nothing(form: str) -> None:
    code = LOG_ON.format(form=form) + "log.info('attempt'); log.info('attempt'); print('went on')"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, timeout=60, check=True)

    assert done.stdout == b"went on\n"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_signal_that_comes_in_the_middle_of_a_line_may_log_too(form: str) -> None:
    # The line is long: the pipe is full before it has been written, and the reader sends the signal then.
    log_long = """
signal.signal(signal.SIGTERM, lambda *_: log.info("stopping"))
print("begins", flush=True)
log.info("ready", text="x" * 1_000_000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", LOG_ON.format(form=form) + log_long], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stderr.read(1)
        process.send_signal(signal.SIGTERM)
        try:
            _, rest = process.communicate(timeout=30)
        finally:
            process.kill()

    assert process.returncode == 0
    assert b"stopping" in rest


def test_a_json_line_holds_whatever_it_is_given() -> None:
    code = LOG_ON.format(form="json") + "log.info('batch_says', text='caf\\udce9', number=2**70, each={1: 2})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)

    assert json.loads(done.stderr)["number"] == 2**70
