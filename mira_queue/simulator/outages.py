"""Times in which nobody is served: begun by a schedule or on demand, ended by a timer."""

from __future__ import annotations

import asyncio

from mira_queue.simulator.config import Outage, OutageKind
from mira_queue.simulator.listening import Listener
from mira_queue.simulator.server import Simulator


class Outages:
    """At most one at a time; a new one takes the place of the old."""

    def __init__(self, simulator: Simulator, listener: Listener) -> None:
        self._simulator = simulator
        self._listener = listener
        self._end: asyncio.Task[None] | None = None
        self._scheduled: list[asyncio.TimerHandle] = []

    def schedule(self, outages: tuple[Outage, ...]) -> None:
        """Count from now. What was scheduled before and has not begun is dropped."""
        for handle in self._scheduled:
            handle.cancel()
        loop = asyncio.get_running_loop()
        self._scheduled = [loop.call_later(o.after_s, self.begin, o.kind, o.seconds) for o in outages]

    def begin(self, kind: OutageKind, seconds: float) -> None:
        """`drop` and `refuse` reset the connections that are open, but those that /sim/ was asked over."""
        if self._end is not None:
            self._end.cancel()
        self._simulator.outage = kind
        if kind == "refuse":
            self._listener.refuse()
        if kind != "503":
            self._listener.cut_connections()
        self._end = asyncio.get_running_loop().create_task(self._end_after(seconds, kind))

    async def _end_after(self, seconds: float, kind: OutageKind) -> None:
        if kind != "refuse":
            await self._listener.open()  # the outage that this one replaces may have refused
        await asyncio.sleep(seconds)
        self._simulator.outage = None
        await self._listener.open()
