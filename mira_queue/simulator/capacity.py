"""The server's own limit: how many calls it works on at once for all accounts together, and who waits for a place."""

from __future__ import annotations

import asyncio
from collections import deque

from mira_queue.simulator.config import SimulatorConfig


class Capacity:
    """Places to work at, with a queue before them. `config` may be another at each call."""

    def __init__(self) -> None:
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, config: SimulatorConfig) -> bool:
        """True: a place is taken until `leave()`. False: the queue is full, or the wait was too long."""
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
            return turn.done() and not turn.cancelled()  # handed over at the last moment: then it is taken
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place was handed over while the client went away: it must not be lost
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
        return True

    def leave(self) -> None:
        """Hand the place to the first that waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1
