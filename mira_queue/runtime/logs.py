"""Structured logs: one line per event, JSON or text, without keys and prompts. docs/logs.md lists the events."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from typing import Any, Literal

import orjson
import structlog

from mira_queue.contract.unicode import printable

# Loggers of Celery and its libraries that log too much at level info.
_NOISY = ("kombu", "amqp", "redis", "urllib3", "celery.app.trace", "celery.worker.strategy")


def configure_logs(form: Literal["auto", "json", "text"], level: str) -> None:
    """Send our events and those of the standard library to standard error, in one format."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    pretty = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    final: list[structlog.typing.Processor] = [_without_controls, pretty] if readable else []
    # Our events bypass the standard library, where a line costs four times as much. Every call logs one.
    structlog.configure(
        processors=[*shared, *(final or [structlog.processors.JSONRenderer(serializer=_json)])],
        logger_factory=_Lines(sys.stderr.fileno()),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(final or [structlog.processors.JSONRenderer()]),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines:
    """Writes each line immediately and completely. It never raises: a full disk or a closed pipe must not fail a job.

    It holds no lock. A signal handler can log in the middle of a line, and would wait for itself.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self, *_: object) -> _Lines:
        """Serve as the logger factory of structlog."""
        return self

    def write(self, line: str | bytes) -> None:
        rest = (line.encode(errors="backslashreplace") if isinstance(line, str) else line) + b"\n"
        with suppress(OSError):
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    debug = info = warning = error = critical = write


def _without_controls(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace control characters in text from outside, such as the detail of a response."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _json(event: Any, **options: Any) -> bytes:
    try:
        return orjson.dumps(event, **options)
    except TypeError:
        # orjson rejects the name of a file that is not UTF-8, and a number with too many digits.
        return json.dumps(event, **options).encode()
