"""The ledger's clock, as workers check it: it is the server's clock, without its jumps (scripts/lib/clock.lua)."""

from __future__ import annotations

from datetime import timedelta

from mira_queue.ledger.script_runner import ScriptRunner


class Clock(ScriptRunner):
    """Operations on the clock."""

    def now_ms(self) -> int:
        """Return the ledger's time, in Unix milliseconds: that of a job's times."""
        return self._now_ms()

    def check_clock(self, *, is_first: bool = False) -> timedelta:
        """Return by how much the server's clock has jumped since the last check by any worker.

        `is_first` is the first check of a process. If no other worker has checked since then, the time has passed. From
        now on, the process has to check often.
        """
        self.watches_clock = True
        return timedelta(milliseconds=int(self._run("clock/check", [], [int(is_first)])))
