"""Holds in the ledger: groups of jobs that must not start, because their batch is paused or cancelled."""

from __future__ import annotations

from mira_queue.contract import names
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.script_runner import ScriptRunner


class Holds(ScriptRunner):
    """Operations on holds."""

    def hold(self, group: str) -> None:
        """Keep jobs of a group from starting. Jobs that wait for a permit return to the queue, without a message.

        A hold is set by whoever knows the reason first: the command, the supervisor, or the worker whose call the
        account rejected. Only the supervisor removes it. Calls in flight continue.
        """
        self._run("batches/hold", [names.HOLDS], [group, names.HOLDS_CHANNEL])

    def unhold(self, group: str) -> None:
        """Let jobs of a group start again. Jobs that were held need new messages."""
        with translated_errors():
            self._client.zrem(names.HOLDS, group)
