"""Calls that block, outside of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from mira_producer.gateway.http.errors import ApiError

# Threads that read whole files at the same time, and requests that may wait for one of them.
MAX_FILE_THREADS = 2
MAX_WAITING = 20
RETRY_AFTER_S = 5.0
P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that blocks, such as one of the ledger or of a file, without blocking the event loop."""
    return await to_thread.run_sync(partial(function, *args, **kwargs))


class FileThreads:
    """Threads for work that reads whole files. The threads of `in_thread` stay free for short calls."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(MAX_FILE_THREADS)
        self._open = 0

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function as `in_thread`. Raises ApiError (503) if too many calls wait."""
        if self._open >= MAX_FILE_THREADS + MAX_WAITING:
            raise ApiError(
                503, "too many requests that read whole files", code="files_busy", retry_after_s=RETRY_AFTER_S
            )
        self._open += 1
        try:
            return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)
        finally:
            self._open -= 1
