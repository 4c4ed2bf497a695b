"""A tracer whose spans began in the past, for a library that starts its spans itself."""

from __future__ import annotations

import threading
from typing import Any

from opentelemetry.trace import Span, Tracer, TracerProvider


class BackdatedTracers(TracerProvider, Tracer):
    """A provider of one tracer, and that tracer. Its spans begin at the time that `since` sets."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._of_thread = threading.local()

    def since(self, began_ns: int) -> None:
        """Set when the calling thread's next spans began, in ns since 1970."""
        self._of_thread.began_ns = began_ns

    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return self

    def start_span(self, *args: Any, **options: Any) -> Span:
        return self._tracer.start_span(*args, **{**options, "start_time": self._of_thread.began_ns})

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:
        return self._tracer.start_as_current_span(*args, **{**options, "start_time": self._of_thread.began_ns})
