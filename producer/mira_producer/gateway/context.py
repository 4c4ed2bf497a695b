"""The one object that all routes of a gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from mira_producer.client import MiraQueue
from mira_producer.gateway.access import Access
from mira_queue.contract.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Context:
    """What routes use. `hosts` are the names that a Host header may have, in addition to addresses."""

    queue: MiraQueue
    settings: Settings
    access: Access
    hosts: frozenset[str]
    log: FilteringBoundLogger
    is_simulated: bool = False


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that blocks, such as one of the ledger or of a file, without blocking the event loop."""
    return await to_thread.run_sync(partial(function, *args, **kwargs))
