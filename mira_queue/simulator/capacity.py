"""Capacity of the server: how many calls run at a time, of all accounts together, with a queue for the others."""

from __future__ import annotations

import asyncio
from collections import deque

from mira_queue.simulator.config import SimulatorConfig


class Capacity:
    """Slots for calls, and a queue of calls that wait for one. The configuration may change between two calls."""

    def __init__(self) -> None:
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, config: SimulatorConfig) -> bool:
        """Return True with a slot that is held until `release()`. Return False if the queue or the wait is too long."""
        if config.capacity is None or self._busy < config.capacity:
            self._busy += 1
            return True
        if len(self._waiting) >= config.queue_size:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait_for(turn, config.queue_wait_s)
        except TimeoutError:
            return turn.done() and not turn.cancelled()  # released to this call at the last moment
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # released to this call while its client disconnected: pass it on
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
        return True

    def release(self) -> None:
        """Pass the slot on to the first call in the queue."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1
