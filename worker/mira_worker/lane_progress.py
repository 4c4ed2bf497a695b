"""Which messages of a lane have been taken out of it, and for how long already. Pure: times are handed in."""

from __future__ import annotations

from collections import deque
from datetime import timedelta


class TakenOut:
    """What looks at one lane have shown.

    A lane is first in, first out: what was sent before its head has been taken out. `patience` is how long a message
    may then wait in a worker before it is claimed. It is counted from the look, not from when the message was sent: of
    a thousand jobs handed in within a second all were sent at the same time, and the lost ones would wait for the rest.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience = patience
        self._looks: deque[tuple[float, int]] = deque()
        self._lost_before_ms = 0

    def lost_before_ms(self, head_sent_ms: int, now_s: float) -> int:
        """Jobs of the lane that were sent before this (server's ms) and are still queued have no message any more.

        `head_sent_ms`: when the lane's head was sent; now, when it is empty; 0, when that is not known. `now_s` is
        monotonic. 0: nothing is known to be lost.
        """
        if not head_sent_ms:
            return 0
        while self._looks and self._looks[0][0] + self._patience.total_seconds() <= now_s:
            self._lost_before_ms = max(self._lost_before_ms, self._looks.popleft()[1])
        self._looks.append((now_s, head_sent_ms))
        sent_long_before_ms = head_sent_ms - round(self._patience.total_seconds() * 1000)
        # Never past the head of now: an earlier one may have been a repeated message, noted as sent later than it was.
        return max(0, min(head_sent_ms, max(self._lost_before_ms, sent_long_before_ms)))
