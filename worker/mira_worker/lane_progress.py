"""Progress of a lane: which messages workers have taken, and how long ago. Pure: times are passed in."""

from __future__ import annotations

from collections import deque
from datetime import timedelta


class LaneProgress:
    """Checks of one lane.

    A lane is first in, first out: messages sent before its head have been taken. Then a message may wait in a worker,
    at most for `patience`, before its job is claimed. `patience` counts from the check, not from when the message was
    sent: a thousand jobs submitted within a second were all sent at the same time.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience = patience
        self._checks: deque[tuple[float, int]] = deque()
        self._lost_before_ms = 0

    def lost_before_ms(self, head_sent_ms: int, now_s: float) -> int:
        """Record a check. Return the time (server's ms) before which the messages of jobs that are queued are lost.

        `head_sent_ms` is when the lane's head was sent: the current time if the lane is empty, or 0 if it is unknown.
        `now_s` is monotonic. The result is 0 if no message is known to be lost.
        """
        if not head_sent_ms:
            return 0
        while self._checks and self._checks[0][0] + self._patience.total_seconds() <= now_s:
            self._lost_before_ms = max(self._lost_before_ms, self._checks.popleft()[1])
        self._checks.append((now_s, head_sent_ms))
        sent_long_before_ms = head_sent_ms - round(self._patience.total_seconds() * 1000)
        # Never later than the current head: an earlier head may have been a repeated message with a later time.
        return max(0, min(head_sent_ms, max(self._lost_before_ms, sent_long_before_ms)))
