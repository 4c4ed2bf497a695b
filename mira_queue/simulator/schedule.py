"""Outages and changes that the configuration has scheduled, counted from now."""

from __future__ import annotations

import asyncio

from mira_queue.simulator.config import Change
from mira_queue.simulator.port import Port
from mira_queue.simulator.state import State


class Schedule:
    """Timers of the outages and changes that are still due."""

    def __init__(self, state: State, port: Port) -> None:
        self._state = state
        self._port = port
        self._outages: list[asyncio.TimerHandle] = []
        self._changes: list[asyncio.TimerHandle] = []

    def restart_outages(self) -> None:
        """Schedule the outages of the configuration instead of those that have not started."""
        _cancel(self._outages)
        loop, port = asyncio.get_running_loop(), self._port
        self._outages = [
            loop.call_later(outage.after_s, port.start_outage, outage.kind, outage.seconds)
            for outage in self._state.config.outages
        ]

    def restart_changes(self) -> None:
        """Schedule the changes of the configuration instead of those that have not happened."""
        _cancel(self._changes)
        loop = asyncio.get_running_loop()
        self._changes = [loop.call_later(change.after_s, self._change, change) for change in self._state.config.changes]

    def restart(self) -> None:
        self.restart_outages()
        self.restart_changes()

    def _change(self, change: Change) -> None:
        self._state.configure(self._state.config.changed(change.settings))


def _cancel(handles: list[asyncio.TimerHandle]) -> None:
    for handle in handles:
        handle.cancel()
