"""Structured logs, one line an event, JSON or readable; docs/logs.md lists them. No key and no prompt is in any."""

from __future__ import annotations

import logging
import sys
from typing import Literal

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
        processors=[*shared, pretty if readable else structlog.processors.JSONRenderer(serializer=orjson.dumps)],
        logger_factory=(
            structlog.PrintLoggerFactory(sys.stderr) if readable else structlog.BytesLoggerFactory(sys.stderr.buffer)
        ),
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
