"""Calls that block, outside of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import to_thread

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that blocks, such as one of the ledger or of a file, without blocking the event loop."""
    return await to_thread.run_sync(partial(function, *args, **kwargs))
