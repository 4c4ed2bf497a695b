"""Outages: times without service, started by a schedule or on request, ended by a timer."""

from __future__ import annotations

import asyncio

from mira_queue.simulator.config import Outage, OutageKind
from mira_queue.simulator.listener import Listener
from mira_queue.simulator.state import State


class Outages:
    """At most one outage at a time. A new one replaces the current one."""

    def __init__(self, state: State, listener: Listener) -> None:
        self._state = state
        self._listener = listener
        self._end: asyncio.Task[None] | None = None
        self._scheduled: list[asyncio.TimerHandle] = []

    def schedule(self, outages: tuple[Outage, ...]) -> None:
        """Schedule these outages, counted from now, instead of those that have not started."""
        for handle in self._scheduled:
            handle.cancel()
        loop = asyncio.get_running_loop()
        self._scheduled = [loop.call_later(o.after_s, self.start, o.kind, o.seconds) for o in outages]

    def start(self, kind: OutageKind, seconds: float) -> None:
        """Start an outage. `drop` and `refuse` reset the open connections, except those that were used for /sim/."""
        if self._end is not None:
            self._end.cancel()
        self._state.outage = kind
        if kind == "refuse":
            self._listener.refuse()
        if kind != "503":
            self._listener.reset_connections()
        self._end = asyncio.get_running_loop().create_task(self._end_after(seconds, kind))

    async def _end_after(self, seconds: float, kind: OutageKind) -> None:
        if kind != "refuse":
            await self._listener.open()  # the outage that this one replaces may have closed it
        await asyncio.sleep(seconds)
        self._state.outage = None
        await self._listener.open()
