"""Structured logs, one line an event, JSON or readable; docs/logs.md lists them. No key and no prompt is in any."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from typing import Any, Literal

import orjson
import structlog

# Celery and its libraries log through the standard library; these say too much at info.
_CHATTY = ("kombu", "amqp", "redis", "urllib3", "celery.app.trace", "celery.worker.strategy")


def configure_logs(form: Literal["auto", "json", "text"], level: str) -> None:
    """Send our events and those of the standard library to standard error, in one form."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    pretty = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    # Ours go straight to the end: by way of the standard library a line, of which every call has one, costs four times
    # as much.
    structlog.configure(
        processors=[*shared, pretty if readable else structlog.processors.JSONRenderer(serializer=_json)],
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
                pretty if readable else structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines:
    """Writes each line at once, whole, and never raises: a disk that is full, or a reader that is gone, ends no job.

    It holds no lock: the handler of a signal may log in the middle of a line, and would wait for itself.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self, *_: object) -> _Lines:
        """As the factory of loggers."""
        return self

    def write(self, line: str | bytes) -> None:
        rest = (line.encode(errors="backslashreplace") if isinstance(line, str) else line) + b"\n"
        with suppress(OSError):
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    debug = info = warning = error = critical = write


def _json(event: Any, **options: Any) -> bytes:
    try:
        return orjson.dumps(event, **options)
    except TypeError:
        # What it does not know: the name of a file that is no UTF-8, a number that is too long.
        return json.dumps(event, **options).encode()
